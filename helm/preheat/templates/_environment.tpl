{{/* What coordinators, workers and the commands beside them need to know of the cluster. */}}
{{- define "preheat.engineEnv" -}}
- name: PREHEAT_NATS_URL
  value: {{ include "preheat.natsUrl" . | quote }}
- name: PREHEAT_NATS_WAIT
  value: {{ .Values.nats.waitSeconds | quote }}
- name: PREHEAT_NATS_REPLICAS
  value: {{ .Values.nats.streamReplicas | quote }}
{{- if include "preheat.natsSecret" . }}
- name: PREHEAT_NATS_TOKEN_FILE
  value: /etc/preheat/nats/token/token
{{- end }}
{{- if .Values.nats.credentialsSecret }}
- name: PREHEAT_NATS_CREDENTIALS_FILE
  value: /etc/preheat/nats/credentials/nats.creds
{{- end }}
{{- if and .Values.nats.enabled .Values.tls.enabled }}
- name: PREHEAT_NATS_CA_FILE
  value: /etc/preheat/tls/ca.crt
{{- else if .Values.nats.tls.caSecret }}
- name: PREHEAT_NATS_CA_FILE
  value: /etc/preheat/nats/ca/ca.crt
{{- end }}
{{- if .Values.nats.tls.clientSecret }}
- name: PREHEAT_NATS_CERT_FILE
  value: /etc/preheat/nats/client/tls.crt
- name: PREHEAT_NATS_KEY_FILE
  value: /etc/preheat/nats/client/tls.key
{{- end }}
{{- end }}

{{- define "preheat.natsUrl" -}}
{{- if .Values.nats.enabled -}}
{{- $urls := list -}}
{{- range $number := until (int .Values.nats.replicas) -}}
{{- $host := printf "%s-%d.%s.%s" (include "preheat.nats" $) $number (include "preheat.nats" $) (include "preheat.domain" $) -}}
{{- $urls = append $urls (printf "%s://%s:4222" (ternary "tls" "nats" $.Values.tls.enabled) $host) -}}
{{- end -}}
{{ join "," $urls }}
{{- else -}}
{{ .Values.nats.url }}
{{- end -}}
{{- end }}

{{/* Who is let in, and TLS. */}}
{{- define "preheat.accessEnv" -}}
{{- if .Values.auth.enabled -}}
- name: PREHEAT_AUTH
  value: "true"
{{ include "preheat.tokenEnv" . }}
{{- else -}}
- name: PREHEAT_ALLOW_ANONYMOUS
  value: "true"
{{- end }}
{{- if .Values.tls.enabled }}
- name: PREHEAT_TLS_CERT
  value: /etc/preheat/tls/tls.crt
- name: PREHEAT_TLS_KEY
  value: /etc/preheat/tls/tls.key
{{ include "preheat.trustEnv" . }}
{{- end }}
{{- end }}

{{- define "preheat.tokenEnv" -}}
- name: PREHEAT_TOKEN_FILE
  value: /etc/preheat/auth/token
{{- end }}

{{/* What of the Secret with the tokens a pod has as files: a list of keys. */}}
{{- define "preheat.authVolume" -}}
- name: auth
  secret:
    secretName: {{ include "preheat.authSecret" (index . 0) }}
    defaultMode: 0440
    items:
      {{- range index . 1 }}
      - key: {{ . }}
        path: {{ . }}
      {{- end }}
{{- end }}

{{- define "preheat.trustEnv" -}}
- name: PREHEAT_CA_FILE
  value: /etc/preheat/tls/ca.crt
{{- end }}

{{/* The under store, by the standard variables of AWS. */}}
{{- define "preheat.s3Env" -}}
{{- with .Values.s3.endpointUrl }}
- name: AWS_ENDPOINT_URL
  value: {{ . | quote }}
{{- end }}
{{- with .Values.s3.region }}
- name: AWS_REGION
  value: {{ . | quote }}
{{- end }}
{{- range ternary (list "AWS_ACCESS_KEY_ID" "AWS_SECRET_ACCESS_KEY") (list) (ne .Values.s3.existingSecret "") }}
- name: {{ . }}
  valueFrom:
    secretKeyRef:
      name: {{ $.Values.s3.existingSecret }}
      key: {{ . }}
{{- end }}
{{- if .Values.s3.credentialsSecret }}
- name: AWS_SHARED_CREDENTIALS_FILE
  value: /etc/preheat/s3/credentials
{{- end }}
{{- with .Values.s3.webIdentity.roleArn }}
- name: AWS_ROLE_ARN
  value: {{ . | quote }}
- name: AWS_WEB_IDENTITY_TOKEN_FILE
  value: /etc/preheat/s3/token
{{- end }}
{{- end }}

{{/* The files that those variables name. */}}
{{- define "preheat.volumes" -}}
- name: tmp
  emptyDir: {}
{{- if .Values.tls.enabled }}
- name: tls
  secret:
    secretName: {{ include "preheat.tlsSecret" . }}
    defaultMode: 0440
{{- end }}
{{- range $name, $secret := include "preheat.natsFiles" . | fromYaml }}
- name: nats-{{ $name }}
  secret:
    secretName: {{ $secret }}
    defaultMode: 0440
    items:
      {{- range get (dict "token" (list "token") "credentials" (list "nats.creds") "ca" (list "ca.crt") "client" (list "tls.crt" "tls.key")) $name }}
      - key: {{ . }}
        path: {{ . }}
      {{- end }}
{{- end }}
{{- if .Values.s3.credentialsSecret }}
- name: s3
  secret:
    secretName: {{ .Values.s3.credentialsSecret }}
    defaultMode: 0440
    items:
      - key: credentials
        path: credentials
{{- else if .Values.s3.webIdentity.roleArn }}
- name: s3
  projected:
    defaultMode: 0440
    sources:
      - serviceAccountToken:
          audience: {{ .Values.s3.webIdentity.audience | quote }}
          expirationSeconds: 3600
          path: token
{{- end }}
{{- end }}

{{- define "preheat.volumeMounts" -}}
- name: tmp
  mountPath: /tmp
{{- if .Values.auth.enabled }}
- name: auth
  mountPath: /etc/preheat/auth
  readOnly: true
{{- end }}
{{- if .Values.tls.enabled }}
- name: tls
  mountPath: /etc/preheat/tls
  readOnly: true
{{- end }}
{{- range $name, $secret := include "preheat.natsFiles" . | fromYaml }}
- name: nats-{{ $name }}
  mountPath: /etc/preheat/nats/{{ $name }}
  readOnly: true
{{- end }}
{{- if or .Values.s3.credentialsSecret .Values.s3.webIdentity.roleArn }}
- name: s3
  mountPath: /etc/preheat/s3
  readOnly: true
{{- end }}
{{- end }}

{{- define "preheat.natsFiles" -}}
{{- with include "preheat.natsSecret" . }}
token: {{ . }}
{{- end }}
{{- with .Values.nats.credentialsSecret }}
credentials: {{ . }}
{{- end }}
{{- with .Values.nats.tls.caSecret }}
ca: {{ . }}
{{- end }}
{{- with .Values.nats.tls.clientSecret }}
client: {{ . }}
{{- end }}
{{- end }}
