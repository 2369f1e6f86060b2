{{/* The environment with the addresses of broker, cache and mongo. A password comes from a secret
into a variable of its own; the kubelet inserts it into the URL. */}}

{{/* The name of the secret with a store's password, from (list $ role). */}}
{{- define "milepost.secretName" -}}
{{- $store := index (index . 0).Values (index . 1) -}}
{{ default (include "milepost.name" .) $store.auth.existingSecret }}
{{- end }}

{{- define "milepost.host" -}}
{{- $store := index (index . 0).Values (index . 1) -}}
{{- if $store.enabled }}{{ include "milepost.name" . }}{{ else }}{{ $store.external.host }}{{ end -}}
{{- end }}

{{- define "milepost.port" -}}
{{- $store := index (index . 0).Values (index . 1) -}}
{{- if not $store.enabled }}{{ int $store.external.port }}{{ else if eq (index . 1) "mongo" }}27017{{ else }}6379{{ end -}}
{{- end }}

{{/* true if the broker is a master with replicas and Sentinels. */}}
{{- define "milepost.replicated" -}}
{{- if and .Values.broker.enabled (eq .Values.broker.mode "sentinel") }}true{{ end -}}
{{- end }}

{{/* The address of a broker's pod, from (list $ its ordinal, or "$(POD_NAME)", port). */}}
{{- define "milepost.node" -}}
{{- $root := index . 0 -}}
{{- $pod := index . 1 -}}
{{- if not (kindIs "string" $pod) }}{{ $pod = printf "%s-%d" (include "milepost.name" (list $root "broker")) (int $pod) }}{{ end -}}
{{ $pod }}.{{ include "milepost.name" (list $root "broker-nodes") }}.{{ $root.Release.Namespace }}.svc:{{ index . 2 }}
{{- end }}

{{/* The nodes of a Redis Cluster that broker.external and broker.cluster name, as a YAML list. */}}
{{- define "milepost.nodes" -}}
{{- $all := list -}}
{{- with .Values.broker.external.host }}{{ $all = append $all (printf "%s:%d" . (int $.Values.broker.external.port)) }}{{ end -}}
{{- range default list (get .Values.broker.cluster "nodes") }}{{ $all = append $all (ternary . (printf "%s:6379" .) (contains ":" .)) }}{{ end -}}
{{ toYaml $all }}
{{- end }}

{{/* The ports of a store elsewhere, as a YAML list, from (list $ role). */}}
{{- define "milepost.externalPorts" -}}
{{- $store := index (index . 0).Values (index . 1) -}}
{{- $ports := list (include "milepost.port" . | int) -}}
{{- if and (eq (index . 1) "broker") (eq $store.mode "cluster") -}}
{{- range include "milepost.nodes" (index . 0) | fromYamlArray }}{{ $ports = append $ports (regexFind "[0-9]+$" . | int) }}{{ end -}}
{{- end -}}
{{ toYaml (default (uniq $ports) $store.external.ports) }}
{{- end }}

{{/* The ports of a store that the chart runs, as a list, from (list $ role). */}}
{{- define "milepost.ports" -}}
- {port: {{ include "milepost.port" . }}, protocol: TCP}
{{- if and (eq (index . 1) "broker") (include "milepost.replicated" (index . 0)) }}
- {port: 26379, protocol: TCP}
{{- end }}
{{- end }}

{{/* true if there is such a store, in the chart or elsewhere, from (list $ role). */}}
{{- define "milepost.present" -}}
{{- $store := index (index . 0).Values (index . 1) -}}
{{- if or $store.enabled $store.external.host $store.external.existingSecret }}true{{ end -}}
{{- end }}

{{/* true if the store is elsewhere and is reached by TLS, from (list $ role). */}}
{{- define "milepost.tls" -}}
{{- $store := index (index . 0).Values (index . 1) -}}
{{- if and (not $store.enabled) $store.external.tls.enabled (include "milepost.present" .) }}true{{ end -}}
{{- end }}

{{/* The volumes with the certificates of stores, or their mounts, as a YAML list, from (list $ names
"volumes" or "mounts"). */}}
{{- define "milepost.tlsFiles" -}}
{{- $root := index . 0 -}}
{{- $all := list -}}
{{- range $role := index . 1 -}}
{{- if has $role (list "broker" "cache" "mongo") -}}
{{- $secret := (index $root.Values $role).external.tls.existingSecret -}}
{{- if and $secret (include "milepost.tls" (list $root $role)) -}}
{{- $name := printf "tls-%s" $role -}}
{{- $all = append $all (ternary (dict "name" $name "secret" (dict "secretName" $secret "defaultMode" 288)) (dict "name" $name "mountPath" (printf "/etc/milepost/%s" $name) "readOnly" true) (eq (index $ 2) "volumes")) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{ toYaml $all }}
{{- end }}

{{/* The variables with the paths of those files, from (list $ role prefix of the variables). */}}
{{- define "milepost.env.tls" -}}
{{- $tls := (index (index . 0).Values (index . 1)).external.tls -}}
{{- if and (include "milepost.tls" .) $tls.existingSecret }}
{{- range $variable, $key := dict "CA" $tls.caKey "CERT" $tls.certKey "KEY" $tls.keyKey }}
{{- with $key }}
- name: {{ index $ 2 }}_TLS_{{ $variable }}
  value: {{ printf "/etc/milepost/tls-%s/%s" (index $ 1) . | quote }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* A variable with a whole URL from a secret, or a password and a URL that contains it. From
(dict "root" $ "role" role "name" variable "scheme" scheme "user" user "path" path). */}}
{{- define "milepost.url" -}}
{{- $store := index .root.Values .role -}}
{{- if and (not $store.enabled) $store.external.existingSecret }}
- name: {{ .name }}
  valueFrom:
    secretKeyRef: {name: {{ $store.external.existingSecret }}, key: {{ $store.external.urlKey }}}
{{- else }}
{{- $at := "" }}
{{- if $store.auth.enabled }}
{{- $variable := printf "%s_PASSWORD" (upper .role) }}
{{- $at = printf "%s:$(%s)@" (get . "user") $variable }}
- name: {{ $variable }}
  valueFrom:
    secretKeyRef: {name: {{ include "milepost.secretName" (list .root .role) }}, key: {{ $store.auth.passwordKey }}}
{{- end }}
- name: {{ .name }}
  value: {{ printf "%s://%s%s:%s/%s" .scheme $at (include "milepost.host" (list .root .role)) (include "milepost.port" (list .root .role)) (get . "path") | quote }}
{{- end }}
{{- end }}

{{- define "milepost.env.broker" -}}
{{- with .Values.keyPrefix }}
- name: KEY_PREFIX
  value: {{ . | quote }}
{{- end }}
{{- $tls := include "milepost.tls" (list . "broker") -}}
{{- if include "milepost.replicated" . }}
- name: REDIS_URL
  value: redis://{{ include "milepost.node" (list . 0 26379) }}/0?master_name=pipeline&addr={{ include "milepost.node" (list . 1 26379) }}&addr={{ include "milepost.node" (list . 2 26379) }}
{{- if .Values.broker.auth.enabled }}
{{- range list "REDIS_PASSWORD" "REDIS_SENTINEL_PASSWORD" }}
- name: {{ . }}
  valueFrom:
    secretKeyRef: {name: {{ include "milepost.secretName" (list $ "broker") }}, key: {{ $.Values.broker.auth.passwordKey }}}
{{- end }}
{{- end }}
- name: WAIT_REPLICAS
  value: {{ .Values.broker.sentinel.waitReplicas | int | quote }}
{{- else if and (eq .Values.broker.mode "cluster") (not .Values.broker.external.existingSecret) }}
{{- $nodes := include "milepost.nodes" . | fromYamlArray }}
- name: REDIS_URL
  value: {{ ternary "rediss" "redis" (eq $tls "true") }}://{{ first $nodes }}/0{{ range $i, $node := rest $nodes }}{{ ternary "?" "&" (eq $i 0) }}addr={{ $node }}{{ end }}
{{- if .Values.broker.auth.enabled }}
- name: REDIS_PASSWORD
  valueFrom:
    secretKeyRef: {name: {{ include "milepost.secretName" (list . "broker") }}, key: {{ .Values.broker.auth.passwordKey }}}
{{- end }}
{{- else if or .Values.broker.auth.enabled $tls (and (not .Values.broker.enabled) .Values.broker.external.existingSecret) -}}
{{ include "milepost.url" (dict "root" . "role" "broker" "name" "REDIS_URL" "scheme" (ternary "rediss" "redis" (eq $tls "true"))) }}
{{- else }}
- name: REDIS_HOST
  value: {{ include "milepost.host" (list . "broker") | quote }}
- name: REDIS_PORT
  value: {{ include "milepost.port" (list . "broker") | quote }}
{{- end }}
{{- if eq .Values.broker.mode "cluster" }}
- name: SHARDS
  value: {{ .Values.broker.cluster.shards | int | quote }}
- name: WAIT_REPLICAS
  value: {{ .Values.broker.cluster.waitReplicas | int | quote }}
{{- end }}
{{- include "milepost.env.tls" (list . "broker" "REDIS") }}
{{- end }}

{{- define "milepost.env.cache" -}}
{{- if include "milepost.present" (list . "cache") -}}
{{ include "milepost.url" (dict "root" . "role" "cache" "name" "CACHE_REDIS_URL" "scheme" (ternary "rediss" "redis" (eq (include "milepost.tls" (list . "cache")) "true"))) }}
{{- include "milepost.env.tls" (list . "cache" "CACHE_REDIS") }}
{{- end }}
{{- end }}

{{- define "milepost.env.mongo" -}}
{{- $mongo := .Values.mongo -}}
{{- $tls := include "milepost.tls" (list . "mongo") -}}
{{- if or $mongo.auth.enabled $tls (and (not $mongo.enabled) $mongo.external.existingSecret) -}}
{{- $options := list -}}
{{- if $mongo.auth.enabled }}{{ $options = append $options "authSource=admin" }}{{ end -}}
{{- if $tls }}{{ $options = append $options "tls=true" }}{{ end -}}
{{ include "milepost.url" (dict "root" . "role" "mongo" "name" "MONGO_URL" "scheme" "mongodb" "user" $mongo.auth.username "path" (printf "?%s" (join "&" $options))) }}
{{- else }}
- name: MONGO_HOST
  value: {{ include "milepost.host" (list . "mongo") | quote }}
- name: MONGO_PORT
  value: {{ include "milepost.port" (list . "mongo") | quote }}
{{- end }}
- name: MONGO_DATABASE
  value: {{ $mongo.database | quote }}
{{- include "milepost.env.tls" (list . "mongo" "MONGO") }}
{{- end }}
