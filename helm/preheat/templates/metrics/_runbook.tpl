{{/* Where an alert is explained. */}}
{{- define "preheat.runbook" -}}
{{- with (index . 0).Values.metrics.prometheusRule.runbookUrl -}}
runbook_url: {{ trimSuffix "/" . }}/{{ index $ 1 | lower }}.md
{{- end -}}
{{- end }}
