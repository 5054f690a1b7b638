{{/* The first part of the objects' names. Services are DNS labels: no dots, and short enough for what follows. */}}
{{- define "preheat.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- $full | replace "." "-" | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{- define "preheat.coordinator" -}}{{ include "preheat.fullname" . }}-coordinator{{- end }}
{{- define "preheat.worker" -}}{{ include "preheat.fullname" . }}-worker{{- end }}
{{- define "preheat.nats" -}}{{ include "preheat.fullname" . }}-nats{{- end }}
{{- define "preheat.s3" -}}{{ include "preheat.fullname" . }}-s3{{- end }}

{{/* The DNS domain of the release's Services. */}}
{{- define "preheat.domain" -}}{{ .Release.Namespace }}.svc.{{ .Values.clusterDomain }}{{- end }}

{{/* What a Service, and so a selector, is bound to for good: name, instance and component, nothing that changes. */}}
{{- define "preheat.selector" -}}
app.kubernetes.io/name: {{ default .root.Chart.Name .root.Values.nameOverride | trunc 63 }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "preheat.labels" -}}
{{ include "preheat.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* The label of pods that may use the cluster, whatever their namespace. */}}
{{- define "preheat.clientLabel" -}}{{ include "preheat.fullname" . }}-client{{- end }}

{{- define "preheat.scheme" -}}{{ ternary "https" "http" .Values.tls.enabled }}{{- end }}
{{- define "preheat.coordinatorUrl" -}}
{{ include "preheat.scheme" . }}://{{ include "preheat.coordinator" . }}.{{ include "preheat.domain" . }}:19999
{{- end }}

{{- define "preheat.serviceAccount" -}}{{ .Values.serviceAccount.name | default (include "preheat.fullname" .) }}{{- end }}
{{- define "preheat.authSecret" -}}
{{ .Values.auth.existingSecret | default (printf "%s-auth" (include "preheat.fullname" .)) }}
{{- end }}
{{- define "preheat.tlsSecret" -}}
{{ .Values.tls.existingSecret | default (printf "%s-tls" (include "preheat.fullname" .)) }}
{{- end }}

{{/* The Secret with the engine's token; empty if it wants none. */}}
{{- define "preheat.natsSecret" -}}
{{- if .Values.nats.auth.existingSecret -}}
{{ .Values.nats.auth.existingSecret }}
{{- else if .Values.nats.enabled -}}
{{ include "preheat.nats" . }}-auth
{{- end -}}
{{- end }}
