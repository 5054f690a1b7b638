{{- define "preheat.serviceMonitor" -}}
apiVersion: monitoring.coreos.com/v1
kind: ServiceMonitor
metadata:
  name: {{ include "preheat.fullname" .root }}-{{ .component }}
  labels:
    {{- include "preheat.labels" . | nindent 4 }}
    {{- with .root.Values.metrics.serviceMonitor.labels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  selector:
    matchLabels:
      {{- include "preheat.selector" . | nindent 6 }}
    matchExpressions:
      # Of workers two Services: one of them is enough.
      - key: preheat/scraped
        operator: Exists
  namespaceSelector:
    matchNames:
      - {{ .root.Release.Namespace }}
  endpoints:
    - port: {{ .port }}
      path: /metrics
      interval: {{ .root.Values.metrics.serviceMonitor.interval }}
      {{- if .root.Values.auth.enabled }}
      authorization:
        credentials:
          name: {{ .root.Values.metrics.serviceMonitor.tokenSecret | default (include "preheat.authSecret" .root) }}
          key: token
      {{- end }}
      {{- if .root.Values.tls.enabled }}
      scheme: https
      tlsConfig:
        ca:
          secret:
            name: {{ include "preheat.tlsSecret" .root }}
            key: ca.crt
        serverName: {{ include (printf "preheat.serverName.%s" .component) .root }}
      {{- end }}
{{- end }}

{{/* Prometheus asks addresses, for which there is no certificate: a name that is in it. */}}
{{- define "preheat.serverName.coordinator" -}}{{ include "preheat.coordinator" . }}{{- end }}
{{- define "preheat.serverName.worker" -}}{{ include "preheat.worker" . }}-0.{{ include "preheat.worker" . }}.{{ include "preheat.domain" . }}{{- end }}
