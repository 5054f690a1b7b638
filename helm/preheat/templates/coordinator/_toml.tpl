{{/* preheat.toml: datasets and mounts. Helm's toToml writes whole numbers as 1.0, and JSON's scalars are TOML's. */}}
{{- define "preheat.toml" -}}
{{- range $name, $dataset := .Values.datasets }}
[datasets.{{ $name | toJson }}]
{{- include "preheat.tomlFields" (omit $dataset "preload") }}
{{- with $dataset.preload }}

[datasets.{{ $name | toJson }}.preload]
{{- include "preheat.tomlFields" . }}
{{- end }}
{{ end }}
{{- range .Values.mounts }}
[[mounts]]
{{- include "preheat.tomlFields" . }}
{{ end }}
{{- end }}

{{- define "preheat.tomlFields" -}}
{{- range $key, $value := . }}
{{- if not (kindIs "invalid" $value) }}
{{ $key }} = {{ $value | toJson }}
{{- end }}
{{- end }}
{{- end }}
