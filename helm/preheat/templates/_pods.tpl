{{- define "preheat.image" -}}
{{- $image := .Values.image -}}
{{- $path := ternary (printf "%s/%s" $image.registry $image.repository) $image.repository (ne $image.registry "") -}}
{{- if $image.digest -}}{{ $path }}@{{ $image.digest }}{{- else -}}{{ $path }}:{{ $image.tag | default .Chart.AppVersion }}{{- end -}}
{{- end }}

{{/* What every pod has: no credentials of Kubernetes, and none of the variables of Services, of which Preheat would read some
     (the Service preheat-s3 would make PREHEAT_S3_PORT an URL). */}}
{{- define "preheat.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .part.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
securityContext:
  runAsNonRoot: true
  {{- with .root.Values.securityContext.runAsUser }}
  runAsUser: {{ int . }}
  {{- end }}
  {{- with .root.Values.securityContext.runAsGroup }}
  runAsGroup: {{ int . }}
  {{- end }}
  {{- with .root.Values.securityContext.fsGroup }}
  fsGroup: {{ int . }}
  fsGroupChangePolicy: OnRootMismatch
  {{- end }}
  seccompProfile:
    type: RuntimeDefault
{{- end }}

{{/* Where pods of a component go. */}}
{{- define "preheat.placement" -}}
{{- $spread := .part.topologySpread -}}
{{- if or $spread.hostname $spread.zone }}
topologySpreadConstraints:
  {{- range $key, $rule := dict "kubernetes.io/hostname" $spread.hostname "topology.kubernetes.io/zone" $spread.zone }}
  {{- if $rule }}
  - maxSkew: 1
    topologyKey: {{ $key }}
    whenUnsatisfiable: {{ $rule }}
    labelSelector:
      matchLabels:
        {{- include "preheat.selector" $ | nindent 8 }}
  {{- end }}
  {{- end }}
{{- end }}
{{- with .part.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .part.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .part.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "preheat.container" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
# What a process said last before it failed is in `kubectl describe`.
terminationMessagePolicy: FallbackToLogsOnError
{{- end }}

{{/* The labels and annotations of a component's pods. */}}
{{- define "preheat.podLabels" -}}
{{ include "preheat.labels" . }}
{{- with .part.podLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* An httpGet of a probe: path and port. */}}
{{- define "preheat.get" -}}
httpGet:
  path: {{ .path }}
  port: {{ .port }}
  scheme: {{ include "preheat.scheme" .root | upper }}
{{- end }}

{{/* A quantity such as 90GiB, 100Gi, 0.5Ti or 1073741824 in MiB. */}}
{{- define "preheat.mib" -}}
{{- $byte := divf 1.0 1048576.0 -}}
{{- $units := dict "m" (divf $byte 1000.0) "" $byte "k" 0.0009765625 "K" 0.0009765625 "M" 1.0 "G" 1024.0 "T" 1048576.0 -}}
{{- $number := regexFind "^[0-9.]+" . | float64 -}}
{{- $unit := regexFind "[mkKMGT]" . -}}
{{- mulf $number (get $units $unit) | floor | int64 -}}
{{- end }}
