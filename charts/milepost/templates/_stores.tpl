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

{{/* true if there is such a store, in the chart or elsewhere, from (list $ role). */}}
{{- define "milepost.present" -}}
{{- $store := index (index . 0).Values (index . 1) -}}
{{- if or $store.enabled $store.external.host $store.external.existingSecret }}true{{ end -}}
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
{{- if or .Values.broker.auth.enabled (and (not .Values.broker.enabled) .Values.broker.external.existingSecret) -}}
{{ include "milepost.url" (dict "root" . "role" "broker" "name" "REDIS_URL" "scheme" "redis") }}
{{- else }}
- name: REDIS_HOST
  value: {{ include "milepost.host" (list . "broker") | quote }}
- name: REDIS_PORT
  value: {{ include "milepost.port" (list . "broker") | quote }}
{{- end }}
{{- end }}

{{- define "milepost.env.cache" -}}
{{- if include "milepost.present" (list . "cache") -}}
{{ include "milepost.url" (dict "root" . "role" "cache" "name" "CACHE_REDIS_URL" "scheme" "redis") }}
{{- end }}
{{- end }}

{{- define "milepost.env.mongo" -}}
{{- $mongo := .Values.mongo -}}
{{- if or $mongo.auth.enabled (and (not $mongo.enabled) $mongo.external.existingSecret) -}}
{{ include "milepost.url" (dict "root" . "role" "mongo" "name" "MONGO_URL" "scheme" "mongodb" "user" $mongo.auth.username "path" "?authSource=admin") }}
{{- else }}
- name: MONGO_HOST
  value: {{ include "milepost.host" (list . "mongo") | quote }}
- name: MONGO_PORT
  value: {{ include "milepost.port" (list . "mongo") | quote }}
{{- end }}
- name: MONGO_DATABASE
  value: {{ $mongo.database | quote }}
{{- end }}

{{/* The Service of a store, from (list $ role). */}}
{{- define "milepost.store.service" -}}
{{- $root := index . 0 -}}
{{- $role := index . 1 -}}
{{- $port := ternary "mongo" "redis" (eq $role "mongo") -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ include "milepost.name" . }}
  namespace: {{ $root.Release.Namespace }}
  labels: {{- include "milepost.labels" . | nindent 4 }}
spec:
  # There is only this server. The services wait for it, and connect as soon as it answers.
  publishNotReadyAddresses: true
  selector: {{- include "milepost.selector" . | nindent 4 }}
  ports:
    - {name: {{ $port }}, port: {{ include "milepost.port" . }}, targetPort: {{ $port }}}
{{- end }}

{{/* The claim of a store's volume, from (list $ role). Claims of a StatefulSet outlive the
release. */}}
{{- define "milepost.store.claim" -}}
{{- $root := index . 0 -}}
{{- $volume := (index $root.Values (index . 1)).persistence -}}
{{- if $volume.enabled -}}
volumeClaimTemplates:
  - metadata:
      name: data
      labels: {{- include "milepost.selector" . | nindent 8 }}
    spec:
      accessModes: [ReadWriteOnce]
      {{- with default $root.Values.global.storageClass $volume.storageClass }}
      storageClassName: {{ . }}
      {{- end }}
      resources:
        requests:
          storage: {{ $volume.size }}
{{- end }}
{{- end }}
