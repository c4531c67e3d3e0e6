# syntax=docker/dockerfile:1

# Two images: culvert, the default, and culvert-kube (docker build --target culvert-kube).
# "make images" reads this file too, and assembles the images without an engine.

ARG VERSION=dev COMMIT

# The builder runs on the platform of this machine, and compiles for the target.
FROM --platform=$BUILDPLATFORM golang:1.26 AS source
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .

FROM source AS build-kube
ARG TARGETOS TARGETARCH VERSION COMMIT
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go -C kubernetes build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=$VERSION -X main.commit=$COMMIT" -o /culvert-kube ./cmd/culvert-kube

FROM source AS build
ARG TARGETOS TARGETARCH VERSION COMMIT
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -pgo=auto -trimpath -buildvcs=false -tags=grpcnotrace -ldflags "-s -w -X main.version=$VERSION -X main.commit=$COMMIT" -o /culvert ./cmd/culvert

# Only the program, and the CA certificates for verifying the API server.
FROM scratch AS culvert-kube
COPY --from=source /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build-kube /culvert-kube /culvert-kube
ARG VERSION COMMIT
LABEL org.opencontainers.image.title="culvert-kube" \
      org.opencontainers.image.description="Puts culvert beside the gRPC services of a Kubernetes cluster" \
      org.opencontainers.image.source="https://github.com/culvert-grpc/culvert" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$COMMIT"
USER 65532:65532
# The webhook, and its health checks and metrics. Kubernetes asks these over HTTP, so
# the image has no HEALTHCHECK.
EXPOSE 8443 9901
ENTRYPOINT ["/culvert-kube"]
CMD ["webhook"]

# Only the program, and the CA certificates for verifying a backend.
FROM scratch AS culvert
COPY --from=source /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /culvert /culvert
ARG VERSION COMMIT
LABEL org.opencontainers.image.title="culvert" \
      org.opencontainers.image.description="Takes gRPC, gRPC-Web, Connect and WebSockets on one port, for an unmodified gRPC service" \
      org.opencontainers.image.source="https://github.com/culvert-grpc/culvert" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$COMMIT"
# A number, so that Kubernetes (runAsNonRoot) can check that it isn't root.
USER 65532:65532
EXPOSE 8080
# The check doesn't see the flags of serve: it reads CULVERT_HEALTH_LISTEN, or the
# file in CULVERT_CONFIG. "culvert demo" has no health checks: run the demo with
# --no-healthcheck.
HEALTHCHECK --interval=5s --timeout=3s --start-period=10s --retries=3 CMD ["/culvert", "healthcheck"]
ENTRYPOINT ["/culvert"]
CMD ["serve"]
