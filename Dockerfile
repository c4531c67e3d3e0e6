# syntax=docker/dockerfile:1

# The builder runs on the platform of this machine, and compiles for the target.
FROM --platform=$BUILDPLATFORM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG TARGETOS TARGETARCH
ARG VERSION=dev COMMIT
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=$VERSION -X main.commit=$COMMIT" -o /culvert ./cmd/culvert

# Only the program, and the CA certificates for verifying a backend.
FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /culvert /culvert
# A number, so that Kubernetes (runAsNonRoot) can check that it isn't root.
USER 65532:65532
EXPOSE 8080
# The check doesn't see the flags of serve: it reads CULVERT_HEALTH_LISTEN, or the
# file in CULVERT_CONFIG. "culvert demo" has no health checks: run the demo with
# --no-healthcheck.
HEALTHCHECK --interval=5s --timeout=3s --start-period=10s --retries=3 CMD ["/culvert", "healthcheck"]
ENTRYPOINT ["/culvert"]
CMD ["serve"]
