{{/* The names that the certificate has to be for. */}}
{{- define "preheat.dnsNames" -}}
{{- $domain := include "preheat.domain" . -}}
- {{ include "preheat.coordinator" . }}
- {{ include "preheat.coordinator" . }}.{{ .Release.Namespace }}
- {{ include "preheat.coordinator" . }}.{{ $domain }}
- {{ printf "*.%s.%s" (include "preheat.worker" .) $domain | quote }}
{{- if .Values.worker.s3.enabled }}
- {{ include "preheat.s3" . }}
- {{ include "preheat.s3" . }}.{{ .Release.Namespace }}
- {{ include "preheat.s3" . }}.{{ $domain }}
{{- end }}
{{- if .Values.nats.enabled }}
- {{ printf "*.%s.%s" (include "preheat.nats" .) $domain | quote }}
{{- end }}
{{- with .Values.coordinator.ingress }}
{{- if .enabled }}
- {{ .host }}
{{- end }}
{{- end }}
{{- end }}
