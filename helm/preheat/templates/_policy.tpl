{{/* The beginning of a component's NetworkPolicy. */}}
{{- define "preheat.policy" -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ include "preheat.fullname" .root }}-{{ .component }}
  labels:
    {{- include "preheat.labels" . | nindent 4 }}
spec:
  podSelector:
    matchLabels:
      {{- include "preheat.selector" . | nindent 6 }}
  policyTypes: [Ingress, Egress]
{{- end }}

{{/* A component of the release as a peer. */}}
{{- define "preheat.peer" -}}
- podSelector:
    matchLabels:
      {{- include "preheat.selector" . | nindent 6 }}
{{- end }}

{{/* Those who use the cluster. */}}
{{- define "preheat.clients" -}}
- namespaceSelector: {}
  podSelector:
    matchLabels:
      {{ include "preheat.clientLabel" . }}: "true"
{{- with .Values.networkPolicy.clients }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Policies see the port of the pod that answers, which is 5353 in OpenShift. */}}
{{- define "preheat.dnsEgress" -}}
- ports:
    {{- range $port := list 53 5353 }}
    {{- range $protocol := list "UDP" "TCP" }}
    - port: {{ $port }}
      protocol: {{ $protocol }}
    {{- end }}
    {{- end }}
{{- end }}

{{/* What leaves both coordinators and workers: names, the engine, the under store. */}}
{{- define "preheat.egress" -}}
{{ include "preheat.dnsEgress" . }}
{{- if .Values.nats.enabled }}
- to:
    {{- include "preheat.peer" (dict "root" . "component" "nats") | nindent 4 }}
  ports:
    - port: 4222
{{- else }}
- ports:
    {{- range splitList "," .Values.nats.url }}
    - port: {{ regexFind "[0-9]+$" (regexFind ":[0-9]+$" .) | default "4222" }}
    {{- end }}
{{- end }}
- ports:
    {{- range .Values.networkPolicy.s3Ports }}
    - port: {{ . }}
    {{- end }}
    {{- with .Values.s3.endpointUrl }}
    - port: {{ regexFind "[0-9]+$" (regexFind ":[0-9]+$" (trimSuffix "/" .)) | default (ternary "443" "80" (hasPrefix "https:" .)) }}
    {{- end }}
{{- with .Values.networkPolicy.extraEgress }}
{{ toYaml . }}
{{- end }}
{{- end }}
