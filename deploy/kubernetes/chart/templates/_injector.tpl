{{/* culvert.injector.secret is the Secret with a serving certificate that the injector
     doesn't make. */}}
{{- define "culvert.injector.secret" -}}
{{- if eq .Values.injector.certificate.source "secret" -}}
{{ required "injector.certificate.secretName: name the Secret with tls.crt and tls.key, or set injector.certificate.source to self" .Values.injector.certificate.secretName }}
{{- else -}}
culvert-injector-tls
{{- end -}}
{{- end }}

{{/* culvert.injector.config is the injector's configuration. */}}
{{- define "culvert.injector.config" -}}
{{- mergeOverwrite (dict "imagePullPolicy" .Values.image.pullPolicy) .Values.injector.config | toYaml -}}
{{- end }}

{{/* culvert.injector.excluded are the namespaces that the API server doesn't ask the
     injector about. A cluster must start without an injector, and so must the injector. */}}
{{- define "culvert.injector.excluded" -}}
{{- $own := list "kube-system" "kube-public" "kube-node-lease" .Release.Namespace -}}
{{- concat $own (.Values.injector.config.excludedNamespaces | default list) | uniq | toJson -}}
{{- end }}

{{/* culvert.injector.webhook is what the two webhooks have in common. Takes {path, caBundle,
     root}. */}}
{{- define "culvert.injector.webhook" -}}
admissionReviewVersions: [v1]
clientConfig:
  service:
    namespace: {{ .root.Release.Namespace | toYaml }}
    name: culvert-injector
    port: 443
    path: {{ .path }}
  {{- with .caBundle }}
  caBundle: {{ . | b64enc }}
  {{- end }}
rules:
  - operations: [CREATE]
    apiGroups: [""]
    apiVersions: [v1]
    resources: [pods]
    scope: Namespaced
matchPolicy: Equivalent
failurePolicy: {{ .root.Values.injector.failurePolicy }}
reinvocationPolicy: IfNeeded
sideEffects: None
timeoutSeconds: {{ .root.Values.injector.timeoutSeconds }}
{{- end }}
