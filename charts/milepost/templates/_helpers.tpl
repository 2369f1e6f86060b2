{{- define "milepost.chart" -}}
{{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "milepost.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{ .Values.fullnameOverride }}
{{- else if contains $name .Release.Name -}}
{{ .Release.Name }}
{{- else -}}
{{ printf "%s-%s" .Release.Name $name }}
{{- end -}}
{{- end }}

{{/* The name of a part of the release, from (list $ part). It has at most 52 bytes, since a
StatefulSet adds a hash to a label. A longer name is cut and gets a hash, so that names stay
unique. */}}
{{- define "milepost.name" -}}
{{- $name := printf "%s-%s" (include "milepost.fullname" (index . 0)) (index . 1) -}}
{{- if gt (len $name) 52 -}}
{{ printf "%s-%s" ($name | trunc 43 | trimSuffix "-") ($name | sha256sum | trunc 8) }}
{{- else -}}
{{ $name }}
{{- end -}}
{{- end }}

{{/* Labels that never change, from (list $ part). */}}
{{- define "milepost.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ default $root.Chart.Name $root.Values.nameOverride }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "milepost.labels" -}}
{{- $root := index . 0 -}}
{{ include "milepost.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ include "milepost.chart" $root }}
{{- end }}

{{- define "milepost.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{ default (include "milepost.name" (list . "pods")) .Values.serviceAccount.name }}
{{- else -}}
{{ default "default" .Values.serviceAccount.name }}
{{- end -}}
{{- end }}

{{/* A reference from (dict "root" $ "image" image "tag" the default tag). */}}
{{- define "milepost.image" -}}
{{- $image := .image -}}
{{- $registry := default $image.registry .root.Values.global.imageRegistry -}}
{{- with $registry }}{{ trimSuffix "/" . }}/{{ end -}}
{{ $image.repository }}
{{- if get $image "digest" }}@{{ $image.digest }}{{ else }}:{{ default (get . "tag") $image.tag }}{{ end -}}
{{- end }}

{{/* Reference and pull policy of the image of a program, from (list $ program image). Keys of
image override those of .Values.image. */}}
{{- define "milepost.programImage" -}}
{{- $root := index . 0 -}}
{{- $all := $root.Values.image -}}
{{- $own := index . 2 -}}
{{- $image := merge (deepCopy $own) $all (dict "digest" "") -}}
{{- if not (get $own "repository") }}{{ $_ := set $image "repository" (printf "%s/%s" $all.repository (index . 1)) }}{{ end -}}
image: {{ include "milepost.image" (dict "root" $root "image" $image "tag" $root.Chart.AppVersion) | quote }}
imagePullPolicy: {{ $image.pullPolicy }}
{{- end }}

{{- define "milepost.pullSecrets" -}}
{{- with uniq (concat (default list .Values.global.imagePullSecrets) .Values.imagePullSecrets) }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{/* The part of the spec that all pods share, from (list $ the entry in values). */}}
{{- define "milepost.pod" -}}
{{- $root := index . 0 -}}
{{- $c := index . 1 -}}
serviceAccountName: {{ include "milepost.serviceAccount" $root }}
automountServiceAccountToken: false
# A Service called redis would set REDIS_PORT=tcp://… in every pod.
enableServiceLinks: false
{{- include "milepost.pullSecrets" $root }}
{{- with $c.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $c.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $c.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $c.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* The enabled components with their defaults, as YAML: a map by name. */}}
{{- define "milepost.components" -}}
{{- $all := dict -}}
{{- range $name, $own := .Values.components -}}
{{- $c := dict "port" 0 "exposed" false "image" dict "autoscaling" dict "keda" dict "persistence" dict -}}
{{- range $key, $value := $.Values.defaults }}{{ $_ := set $c $key $value }}{{ end -}}
{{- range $key, $value := default dict $own }}{{ $_ := set $c $key $value }}{{ end -}}
{{- if $c.enabled }}{{ $_ := set $all $name $c }}{{ end -}}
{{- end -}}
{{ toYaml $all }}
{{- end }}

{{/* The names of the components that use a store or a service, as JSON, from (list components
what). */}}
{{- define "milepost.users" -}}
{{- $what := index . 1 -}}
{{- $names := list -}}
{{- range $name, $c := index . 0 }}{{ if has $what $c.uses }}{{ $names = append $names $name }}{{ end }}{{ end -}}
{{ toJson $names }}
{{- end }}
