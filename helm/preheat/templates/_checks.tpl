{{/* Helm tells the time of a zone that it does not know as UTC, and of every one where it knows none. */}}
{{- define "preheat.checkZone" -}}
{{- $zone := index . 1 -}}
{{- $same := or (not $zone) (regexMatch "^(Etc/)?(UTC|UCT|Universal|Zulu)$" $zone) -}}
{{- if and (not $same) (eq (dateInZone "MST" now $zone) "UTC") (ne (dateInZone "MST" now "Europe/Berlin") "UTC") }}
{{- fail (printf "%s names the time zone %s, which is not known: write one of the IANA database, such as Europe/Berlin." (index . 0) $zone) }}
{{- end }}
{{- end }}

{{- define "preheat.checkSchedule" -}}
{{- $schedule := index . 1 -}}
{{- if and $schedule (not (regexMatch `^@(?i:hourly|daily|weekly|monthly)$` $schedule)) -}}
{{- $fields := regexSplit `\s+` $schedule -1 -}}
{{- if ne (len $fields) 5 -}}
{{- fail (printf "%s.schedule=%q has %d fields: write minute, hour, day, month and weekday, as in 0 2 * * *, or @daily." (index . 0) $schedule (len $fields)) }}
{{- end -}}
{{- $names := list "minute" "hour" "day" "month" "weekday" -}}
{{- $parts := list `[0-5]?[0-9]` `(1?[0-9]|2[0-3])` `([1-9]|[12][0-9]|3[01]|LW?)` `([1-9]|1[0-2]|(?i:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec))` `([0-7]|(?i:sun|mon|tue|wed|thu|fri|sat))(L|#[1-5])?` -}}
{{- range $place, $field := $fields -}}
{{- $one := printf `(\*|0*%s(-0*%s)?)(/0*[1-9][0-9]*)?` (index $parts $place) (index $parts $place) -}}
{{- if not (regexMatch (printf `^%s(,%s)*$` $one $one) $field) -}}
{{- fail (printf "%s.schedule=%q is no cron schedule: its %s is %s." (index $ 0) $schedule (index $names $place) $field) }}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}
