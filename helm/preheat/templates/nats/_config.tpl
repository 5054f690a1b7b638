{{/* nats.conf. The pod's variables are written as JSON, for NATS reads what is in a variable as a value of this file. */}}
{{- define "preheat.natsConfig" -}}
server_name: $NATS_NAME
host: $NATS_HOST
port: 4222
http_port: 8222
pid_file: "/run/nats/nats.pid"
# A job's record names what failed in its open batches.
max_payload: 8MB
# Clients are sent away one after the other before the server ends.
lame_duck_grace_period: "10s"
lame_duck_duration: "30s"
jetstream {
  store_dir: "/data"
  # The default syncs every two minutes and loses acknowledged writes in a power cut.
  sync_interval: always
}
authorization {
  token: $NATS_TOKEN
}
{{- if .Values.tls.enabled }}
tls {
  {{- include "preheat.natsTls" . | nindent 2 }}
}
{{- end }}
{{- if gt (int .Values.nats.replicas) 1 }}
cluster {
  name: {{ .Release.Name | quote }}
  host: $NATS_HOST
  port: 6222
  # Clients know the servers by names, which outlive a pod's address.
  no_advertise: true
  authorization {
    user: "route"
    password: $NATS_TOKEN
    timeout: 5
  }
  routes: $NATS_ROUTES
  {{- if .Values.tls.enabled }}
  tls {
    {{- include "preheat.natsTls" . | nindent 4 }}
    verify: true
  }
  {{- end }}
}
{{- end }}
{{- end }}

{{- define "preheat.natsTls" -}}
cert_file: "/etc/preheat/tls/tls.crt"
key_file: "/etc/preheat/tls/tls.key"
ca_file: "/etc/preheat/tls/ca.crt"
{{- end }}
