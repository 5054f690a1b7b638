{{/* A component's PodDisruptionBudget. Pods that are not well do not keep a node from being drained. */}}
{{- define "preheat.budget" -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ include "preheat.fullname" .root }}-{{ .component }}
  labels:
    {{- include "preheat.labels" . | nindent 4 }}
spec:
  maxUnavailable: {{ .part.podDisruptionBudget.maxUnavailable }}
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "preheat.selector" . | nindent 6 }}
{{- end }}
