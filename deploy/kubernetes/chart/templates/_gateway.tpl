{{/* culvert.gateway.name has the release's name: a cluster can have several gateways. A
     release's name may have dots, which the name of a Service can't. */}}
{{- define "culvert.gateway.name" -}}
{{ .Release.Name | replace "." "-" }}-gateway
{{- end }}

{{/* culvert.gateway.variables are the names of the variables that the chart sets, in
     JSON. */}}
{{- define "culvert.gateway.variables" -}}
{{- $names := list "CULVERT_CONFIG" "CULVERT_LISTEN" "CULVERT_HEALTH_LISTEN" "CULVERT_ADMIN_LISTEN" "CULVERT_DRAIN_TIMEOUT" -}}
{{- if .Values.gateway.tls.secretName -}}
{{- $names = concat $names (list "CULVERT_TLS_CERT" "CULVERT_TLS_KEY") -}}
{{- end -}}
{{- if include "culvert.oneCPU" .Values.gateway.resources -}}
{{- $names = append $names "GOMAXPROCS" -}}
{{- end -}}
{{- toJson $names -}}
{{- end }}

{{/* culvert.gateway.check fails if the values can't work together. The schema checks each
     value alone. */}}
{{- define "culvert.gateway.check" -}}
{{- $v := .Values.gateway -}}
{{- if not (regexMatch "^[a-z]" .Release.Name) -}}
{{- fail (printf "the release's name, %s, must begin with a letter, because the gateway's Service has this name" .Release.Name) -}}
{{- end -}}
{{- if not $v.config -}}
{{- fail "gateway.config: the gateway needs a configuration, with at least backend.address, such as dns:///orders.shop:9000" -}}
{{- end -}}
{{- $own := dict "listen" "gateway.service.port" "drain_timeout" "gateway.drain.timeoutSeconds" "health.listen" "the port named health" "admin.listen" "kubectl exec, since it listens on loopback" -}}
{{- if $v.tls.secretName -}}
{{- $own = merge $own (dict "tls.cert" "gateway.tls.secretName" "tls.key" "gateway.tls.secretName") -}}
{{- end -}}
{{- range $path, $instead := $own -}}
{{- $key := splitList "." $path -}}
{{- $section := $v.config -}}
{{- range initial $key -}}
{{- $section = get $section . | default dict -}}
{{- end -}}
{{- if hasKey $section (last $key) -}}
{{- fail (printf "gateway.config.%s: the chart sets this key: use %s" $path $instead) -}}
{{- end -}}
{{- end -}}
{{- $names := include "culvert.gateway.variables" . | fromJsonArray -}}
{{- range $v.env -}}
{{- if has .name $names -}}
{{- fail (printf "gateway.env: %s is set by the chart or is there twice" .name) -}}
{{- end -}}
{{- $names = append $names .name -}}
{{- end -}}
{{- $volumes := list "config" -}}
{{- if $v.tls.secretName -}}
{{- $volumes = append $volumes "tls" -}}
{{- end -}}
{{- range $v.volumes -}}
{{- if has .name $volumes -}}
{{- fail (printf "gateway.volumes: %s is the chart's own or is there twice: use another name" .name) -}}
{{- end -}}
{{- $volumes = append $volumes .name -}}
{{- end -}}
{{- if and $v.service.externalTrafficPolicy (eq $v.service.type "ClusterIP") -}}
{{- fail "gateway.service.externalTrafficPolicy: a Service of the type ClusterIP has none: set gateway.service.type to NodePort or LoadBalancer" -}}
{{- end -}}
{{- $least := add $v.drain.delaySeconds $v.drain.timeoutSeconds 2 | int -}}
{{- if lt (int $v.terminationGracePeriodSeconds) $least -}}
{{- fail (printf "gateway.terminationGracePeriodSeconds: %d is too short for gateway.drain.delaySeconds, gateway.drain.timeoutSeconds and 2 more: set at least %d" (int $v.terminationGracePeriodSeconds) $least) -}}
{{- end -}}
{{- if $v.autoscaling.enabled -}}
{{- include "culvert.gateway.checkScaling" $v -}}
{{- end -}}
{{- end }}

{{- define "culvert.gateway.checkScaling" -}}
{{- $a := .autoscaling -}}
{{- if gt (int $a.minReplicas) (int $a.maxReplicas) -}}
{{- fail (printf "gateway.autoscaling.maxReplicas: %d is less than minReplicas, %d" (int $a.maxReplicas) (int $a.minReplicas)) -}}
{{- end -}}
{{- if not (or $a.targetMemoryUtilization $a.targetCPUUtilization) -}}
{{- fail "gateway.autoscaling.targetMemoryUtilization: set it or targetCPUUtilization: there is nothing to scale by" -}}
{{- end -}}
{{- range $resource, $target := dict "memory" "targetMemoryUtilization" "cpu" "targetCPUUtilization" -}}
{{- if and (get $a $target) (not (or (dig "requests" $resource "" $.resources) (dig "limits" $resource "" $.resources))) -}}
{{- fail (printf "gateway.autoscaling.%s: it is a percentage of gateway.resources.requests.%s: set that, or set this to 0" $target $resource) -}}
{{- end -}}
{{- end -}}
{{- end }}
