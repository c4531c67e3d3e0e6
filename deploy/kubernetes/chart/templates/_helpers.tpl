{{/* culvert.image is the name of an image. Takes {image, root}. */}}
{{- define "culvert.image" -}}
{{- if .image.digest -}}
{{ .image.repository }}@{{ .image.digest }}
{{- else -}}
{{ .image.repository }}:{{ .image.tag | default .root.Chart.AppVersion }}
{{- end -}}
{{- end }}

{{/* culvert.selector selects the pods of a component. Takes {component, root}. */}}
{{- define "culvert.selector" -}}
app.kubernetes.io/name: culvert
app.kubernetes.io/instance: {{ .root.Release.Name | toYaml }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* culvert.meta is the name, the namespace and the labels of an object. Takes {name,
     component, root}, and optionally annotations, labels and cluster (no namespace). */}}
{{- define "culvert.meta" -}}
name: {{ .name }}
{{- if not .cluster }}
namespace: {{ .root.Release.Namespace | toYaml }}
{{- end }}
labels:
  {{- include "culvert.selector" . | nindent 2 }}
  app.kubernetes.io/version: {{ .root.Chart.AppVersion | toYaml }}
  {{- with mergeOverwrite (dict) .root.Values.commonLabels (.labels | default dict) }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with mergeOverwrite (dict) .root.Values.commonAnnotations (.annotations | default dict) }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* culvert.podMeta is the metadata of a component's pods. Takes {component, root,
     values}, and optionally annotations. */}}
{{- define "culvert.podMeta" -}}
labels:
  {{- include "culvert.selector" . | nindent 2 }}
  {{- with mergeOverwrite (dict) .root.Values.commonLabels .values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with mergeOverwrite (dict) (.annotations | default dict) .values.podAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* culvert.scheduling is where a component's pods run. Takes {component, root, values}. */}}
{{- define "culvert.scheduling" -}}
nodeSelector:
  {{- mergeOverwrite (dict "kubernetes.io/os" "linux") .values.nodeSelector | toYaml | nindent 2 }}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.priorityClassName }}
priorityClassName: {{ . | toYaml }}
{{- end }}
{{- with .values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
affinity:
  {{- if .values.affinity }}
  {{- toYaml .values.affinity | nindent 2 }}
  {{- else }}
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm:
          topologyKey: kubernetes.io/hostname
          labelSelector:
            matchLabels:
              {{- include "culvert.selector" . | nindent 14 }}
  {{- end }}
topologySpreadConstraints:
  {{- if .values.topologySpreadConstraints }}
  {{- toYaml .values.topologySpreadConstraints | nindent 2 }}
  {{- else }}
  - topologyKey: topology.kubernetes.io/zone
    maxSkew: 1
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "culvert.selector" . | nindent 8 }}
  {{- end }}
{{- end }}

{{/* Pod Security's level "restricted", and a read-only root. */}}
{{- define "culvert.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "culvert.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* culvert.oneCPU is "true" if the limits allow one CPU or less, and nothing otherwise. Go
     would take two threads, and the second one only uses up the quota. Takes resources. */}}
{{- define "culvert.oneCPU" -}}
{{- if regexMatch "^(0*[0-9]{1,3}m|1000m|0*1(\\.0*)?|0+\\.[0-9]*)$" (dig "limits" "cpu" "" . | toString) -}}
true
{{- end -}}
{{- end }}

{{/* culvert.peers is the rules of a NetworkPolicy's ingress for one port. Takes {from,
     port}. */}}
{{- define "culvert.peers" -}}
- ports:
    - port: {{ .port }}
      protocol: TCP
  {{- with .from }}
  from:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
