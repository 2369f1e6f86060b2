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
StatefulSet adds a hash to a label. In a longer one the release is cut and gets a hash, so that
names stay unique and end with their part. */}}
{{- define "milepost.name" -}}
{{- $full := include "milepost.fullname" (index . 0) -}}
{{- $room := int (sub 51 (len (index . 1))) -}}
{{- if gt (len $full) $room -}}
{{- $full = printf "%s-%s" ($full | trunc (int (sub $room 9)) | trimSuffix "-") ($full | sha256sum | trunc 8) -}}
{{- end -}}
{{ $full }}-{{ index . 1 }}
{{- end }}

{{/* Labels that never change, from (list $ part). */}}
{{- define "milepost.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ default $root.Chart.Name $root.Values.nameOverride }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* The labels of an object, from (list $ part its own): commonLabels and its own, but the
chart's go before them. */}}
{{- define "milepost.labels" -}}
{{- $root := index . 0 -}}
{{- $chart := dict "app.kubernetes.io/version" $root.Chart.AppVersion "app.kubernetes.io/managed-by" $root.Release.Service "helm.sh/chart" (include "milepost.chart" $root) -}}
{{ include "milepost.texts" (mergeOverwrite dict (default dict $root.Values.commonLabels) (index . 2) $chart (include "milepost.selector" . | fromYaml)) }}
{{- end }}

{{/* The metadata of an object, from (dict "root" $ "part" part), and perhaps its own "labels" and
"annotations". */}}
{{- define "milepost.metadata" -}}
name: {{ include "milepost.name" (list .root .part) }}
namespace: {{ .root.Release.Namespace }}
labels: {{- include "milepost.labels" (list .root .part (default dict (get . "labels"))) | nindent 2 }}
{{- with mergeOverwrite dict (default dict .root.Values.commonAnnotations) (default dict (get . "annotations")) }}
annotations: {{- include "milepost.texts" . | nindent 2 }}
{{- end }}
{{- end }}

{{/* The metadata of a pod template, from (list $ part values annotations). */}}
{{- define "milepost.podMetadata" -}}
{{- $root := index . 0 -}}
{{- $c := index . 2 -}}
labels: {{- include "milepost.texts" (mergeOverwrite dict (default dict $root.Values.commonLabels) (default dict $c.podLabels) (include "milepost.selector" . | fromYaml)) | nindent 2 }}
{{- with mergeOverwrite (index . 3) (default dict $c.podAnnotations) }}
annotations: {{- include "milepost.texts" . | nindent 2 }}
{{- end }}
{{- end }}

{{/* A map whose values must be texts: YAML reads true as a boolean. */}}
{{- define "milepost.texts" -}}
{{- $all := dict -}}
{{- range $k, $v := . }}{{ $_ := set $all $k (ternary (toString $v) (include "milepost.text" $v) (kindIs "bool" $v)) }}{{ end -}}
{{ toYaml $all }}
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

{{/* The part of the spec that all pods share, from (list $ values). Values of all pods apply where
a pod has none of its own. */}}
{{- define "milepost.pod" -}}
{{- $root := index . 0 -}}
{{- $c := index . 1 -}}
serviceAccountName: {{ include "milepost.serviceAccount" $root }}
automountServiceAccountToken: false
# A Service called redis would set REDIS_PORT=tcp://… in every pod.
enableServiceLinks: false
{{- $secrets := list }}
{{- range concat (default list $root.Values.global.imagePullSecrets) (default list $root.Values.imagePullSecrets) }}
{{- $secrets = append $secrets (ternary (dict "name" .) . (kindIs "string" .)) }}
{{- end }}
{{- with uniq $secrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with default $root.Values.priorityClassName $c.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- range $key := list "nodeSelector" "tolerations" "affinity" "topologySpreadConstraints" }}
{{- with default (get $root.Values $key) (get $c $key) }}
{{ $key }}: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- with get $c "extraPodSpec" }}
{{ toYaml . }}
{{- end }}
{{- with get $c "initContainers" }}
initContainers: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* The probes of a container, from (list values the chart's probes). Keys of the values override
the chart's; enabled: false removes a probe. */}}
{{- define "milepost.probes" -}}
{{- $values := index . 0 -}}
{{- $chart := index . 1 -}}
{{- range $key := list "startupProbe" "livenessProbe" "readinessProbe" }}
{{- $own := default dict (get $values $key) }}
{{- $probe := get $chart $key }}
{{- range tuple "httpGet" "tcpSocket" "exec" "grpc" }}{{ if hasKey $own . }}{{ $probe = omit $probe "httpGet" "tcpSocket" "exec" }}{{ end }}{{ end }}
{{- if ne (get $own "enabled" | toString) "false" }}
{{ $key }}: {{- toYaml (omit (merge (deepCopy $own) $probe) "enabled") | nindent 2 }}
{{- end }}
{{- end }}
{{- end }}

{{/* The hosts of the ingress, as a YAML list of objects with host ("" is any) and paths; without an
ingress none. */}}
{{- define "milepost.ingressHosts" -}}
{{- $ingress := .Values.ingress -}}
{{- $all := list -}}
{{- if $ingress.enabled -}}
{{- range default (list (default "" (get $ingress "host"))) $ingress.hosts -}}
{{- $host := ternary (dict "host" .) . (kindIs "string" .) -}}
{{- $paths := list -}}
{{- range default (list (default "/" (trimSuffix "/" $ingress.path))) (get $host "paths") }}{{ $paths = append $paths (ternary (dict "path" .) . (kindIs "string" .)) }}{{ end -}}
{{- $all = append $all (dict "host" (default "" (get $host "host")) "paths" $paths) -}}
{{- end -}}
{{- end -}}
{{ toYaml $all }}
{{- end }}

{{/* The line with a volume's storage class, from (list $ class): "" is the cluster's default, and
"-" is none, for volumes that exist already. */}}
{{- define "milepost.storageClass" -}}
{{- with default (index . 0).Values.global.storageClass (index . 1) -}}
storageClassName: {{ ternary "" . (eq . "-") | quote }}
{{- end }}
{{- end }}

{{/* The spec of a service's claim, from (dict "root" $ "mode" its access mode "volume" persistence). */}}
{{- define "milepost.claim" -}}
accessModes: [{{ .mode }}]
{{- with include "milepost.storageClass" (list .root (get .volume "storageClass")) }}{{ . | nindent 0 }}{{ end }}
resources:
  requests:
    storage: {{ default "1Gi" (get .volume "size") | quote }}
{{- end }}

{{/* The enabled components with their defaults, as YAML: a map by name. */}}
{{- define "milepost.components" -}}
{{- $all := dict -}}
{{- range $name, $own := .Values.components -}}
{{- $c := dict "enabled" true "replicas" 1 "port" 0 "exposed" false "single" false "pdb" true "terminationGracePeriodSeconds" 30 -}}
{{- range tuple "image" "env" "secretEnv" "resources" "service" "autoscaling" "keda" "persistence" "podAnnotations" "podLabels" "affinity" }}{{ $_ := set $c . dict }}{{ end -}}
{{- range tuple "uses" "extraEnv" "extraVolumes" "extraVolumeMounts" "sidecars" "extraIngress" "extraEgress" }}{{ $_ := set $c . list }}{{ end -}}
{{- range $key, $value := default dict $.Values.defaults }}{{ $_ := set $c $key $value }}{{ end -}}
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
