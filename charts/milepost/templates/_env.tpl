{{/* The environment of a component, as a list, from (list $ components name). config and the
component's env override the chart's own variables; no variable is there twice. */}}
{{- define "milepost.env" -}}
{{- $root := index . 0 -}}
{{- $components := index . 1 -}}
{{- $name := index . 2 -}}
{{- $c := index $components $name -}}

{{- $plain := dict "ADMIN_LISTEN" (printf ":%d" (int $c.adminPort)) -}}
{{- if $c.port -}}
{{- $_ := set $plain "LISTEN" (printf ":%d" (int $c.port)) -}}
{{- /* Connections still arrive until every node knows that the pod stops. */ -}}
{{- $_ := set $plain "STOP_DELAY" "3s" -}}
{{- end -}}
{{- if and $c.exposed (or $root.Values.ingress.enabled $root.Values.httpRoute.enabled) $root.Values.ingress.trustedProxies -}}
{{- $_ := set $plain "TRUSTED_PROXIES" $root.Values.ingress.trustedProxies -}}
{{- end -}}
{{- $path := trimSuffix "/" $root.Values.ingress.path -}}
{{- if and (eq $name "web-api") (or $root.Values.ingress.enabled $root.Values.httpRoute.enabled) $path }}{{ $_ := set $plain "BASE_PATH" $path }}{{ end -}}
{{- if and (eq $name "web-api") $root.Values.statusPage.enabled }}{{ $_ := set $plain "STATUS_PAGE" "on" }}{{ if $root.Values.statusPage.actions }}{{ $_ := set $plain "STATUS_ACTIONS" "on" }}{{ end }}{{ end -}}
{{- $stores := list -}}
{{- range $what := $c.uses -}}
{{- if has $what (list "broker" "cache" "mongo") -}}
{{- $stores = concat $stores (include (printf "milepost.env.%s" $what) $root | fromYamlArray) -}}
{{- else if hasKey $root.Values.components $what -}}
{{- with index $components $what -}}
{{- if not .port }}{{ fail (printf "components.%s.uses: %s has no port" $name $what) }}{{ end -}}
{{- $_ := set $plain (printf "%s_URL" ($what | upper | replace "-" "_")) (printf "http://%s:%d" (include "milepost.name" (list $root $what)) (int .port)) -}}
{{- end -}}
{{- else if ne $what "internet" -}}
{{- fail (printf "components.%s.uses: %q is not broker, cache, mongo, internet or a component" $name $what) -}}
{{- end -}}
{{- end -}}
{{- range $k, $v := default dict $root.Values.config }}{{ $_ := set $plain $k (include "milepost.text" $v) }}{{ end -}}
{{- range $k, $v := $c.env }}{{ $_ := set $plain $k (include "milepost.text" $v) }}{{ end -}}
{{- if $c.port -}}
{{- $service := include "milepost.name" (list $root $name) -}}
{{- $space := $root.Release.Namespace -}}
{{- $hosts := list $service (printf "%s.%s" $service $space) (printf "%s.%s.svc" $service $space) (printf "%s.%s.svc.cluster.local" $service $space) -}}
{{- if $c.exposed -}}
{{- range include "milepost.ingressHosts" $root | fromYamlArray }}{{ $hosts = append $hosts (default "*" .host) }}{{ end -}}
{{- if $root.Values.httpRoute.enabled }}{{ $hosts = concat $hosts (default (list "*") $root.Values.httpRoute.hostnames) }}{{ end -}}
{{- if has (get $c.service "type") (list "NodePort" "LoadBalancer") }}{{ $hosts = append $hosts "*" }}{{ end -}}
{{- end -}}
{{- with get $plain "ALLOWED_HOSTS" }}{{ $hosts = append $hosts . }}{{ end -}}
{{- $_ := set $plain "ALLOWED_HOSTS" (join "," (uniq $hosts)) -}}
{{- end -}}

{{- $all := list -}}
{{- range $stores -}}
{{- if not (or (hasKey $plain .name) (hasKey $c.secretEnv .name)) }}{{ $all = append $all . }}{{ end -}}
{{- end -}}
{{- range $k, $v := $plain -}}
{{- if not (hasKey $c.secretEnv $k) }}{{ $all = append $all (dict "name" $k "value" $v) }}{{ end -}}
{{- end -}}
{{- range $k, $v := $c.secretEnv -}}
{{- $all = append $all (dict "name" $k "valueFrom" (dict "secretKeyRef" (dict "name" $v.secret "key" $v.key))) -}}
{{- end -}}
{{- if and (dig "limits" "memory" "" $c.resources) (not (hasKey $plain "GOMEMLIMIT")) -}}
{{- $all = append $all (dict "name" "GOMEMLIMIT" "value" (include "milepost.memoryLimit" $c.resources.limits.memory)) -}}
{{- end -}}
{{ include "milepost.envWith" (list $all $c.extraEnv) }}
{{- end }}

{{/* Variables with those of extraEnv, which override them, from (list variables extraEnv). */}}
{{- define "milepost.envWith" -}}
{{- $extra := default list (index . 1) -}}
{{- $names := list -}}
{{- range $extra }}{{ $names = append $names .name }}{{ end -}}
{{- $all := list -}}
{{- range index . 0 }}{{ if not (has .name $names) }}{{ $all = append $all . }}{{ end }}{{ end -}}
{{ toYaml (concat $all $extra) }}
{{- end }}

{{/* A value as its author meant it without quotes: YAML reads off as false, and Helm 1000000 as
1e+06. */}}
{{- define "milepost.text" -}}
{{- if kindIs "bool" . }}{{ ternary "on" "off" . }}{{ else if and (kindIs "float64" .) (eq . (floor .)) }}{{ printf "%.0f" . }}{{ else }}{{ . }}{{ end -}}
{{- end }}

{{/* GOMEMLIMIT in bytes: 80 % of the container's limit, since the kernel counts more than the Go
runtime. */}}
{{- define "milepost.memoryLimit" -}}
{{- $units := dict "" 1 "m" 0.001 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 -}}
{{- $limit := toString . -}}
{{ mulf 0.8 (regexFind "^[0-9.]+" $limit | float64) (index $units (regexFind "[A-Za-z]*$" $limit)) | printf "%.0f" }}
{{- end }}
