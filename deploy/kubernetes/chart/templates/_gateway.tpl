{{/* culvert.gateway.name has the release's name: a cluster can have several gateways. */}}
{{- define "culvert.gateway.name" -}}
{{ .Release.Name | trunc 50 | trimSuffix "-" }}-gateway
{{- end }}

{{/* culvert.gateway.check fails if the values can't work together. */}}
{{- define "culvert.gateway.check" -}}
{{- $v := .Values.gateway -}}
{{- if not $v.config -}}
{{- fail "gateway.config: the gateway needs a configuration, with at least backend.address, such as dns:///orders.shop:9000" -}}
{{- end -}}
{{- range $key, $instead := dict "listen" "gateway.service.port" "drain_timeout" "gateway.drain.timeoutSeconds" -}}
{{- if hasKey $v.config $key -}}
{{- fail (printf "gateway.config.%s: the chart sets this key: use %s" $key $instead) -}}
{{- end -}}
{{- end -}}
{{- $least := add $v.drain.delaySeconds $v.drain.timeoutSeconds 2 | int -}}
{{- if lt (int $v.terminationGracePeriodSeconds) $least -}}
{{- fail (printf "gateway.terminationGracePeriodSeconds: %d is too short for gateway.drain.delaySeconds, gateway.drain.timeoutSeconds and 2 more: set at least %d" (int $v.terminationGracePeriodSeconds) $least) -}}
{{- end -}}
{{- $a := $v.autoscaling -}}
{{- if and $a.enabled (gt (int $a.minReplicas) (int $a.maxReplicas)) -}}
{{- fail (printf "gateway.autoscaling.maxReplicas: %d is less than minReplicas, %d" (int $a.maxReplicas) (int $a.minReplicas)) -}}
{{- end -}}
{{- if and $a.enabled (not $a.targetMemoryUtilization) (not $a.targetCPUUtilization) -}}
{{- fail "gateway.autoscaling.targetMemoryUtilization: set it or targetCPUUtilization: there is nothing to scale by" -}}
{{- end -}}
{{- end }}
