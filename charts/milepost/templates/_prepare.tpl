{{/* Every template includes this first. It puts the values of the article that this application
comes from where the chart reads them, refuses values that cannot work, and sets _components: the
enabled components with their defaults, a map by name. */}}
{{- define "milepost.prepare" -}}
{{- $v := .Values -}}
{{- if not (hasKey $v "_components") -}}
{{- range $alias, $role := dict "redis" "broker" "mongo" "mongo" -}}
{{- with get $v (printf "%s_host" $alias) -}}
{{- $store := deepCopy (index $v $role) -}}
{{- $_ := set $store "enabled" false -}}
{{- $_ := set $store.external "host" . -}}
{{- with get $v (printf "%s_port" $alias) }}{{ $_ := set $store.external "port" (int .) }}{{ end -}}
{{- $_ := set $v $role $store -}}
{{- end -}}
{{- end -}}
{{- if or (get $v "ingress_host") (get $v "ingress_class_name") -}}
{{- $ingress := deepCopy $v.ingress -}}
{{- $_ := set $ingress "enabled" true -}}
{{- with get $v "ingress_host" }}{{ $_ := set $ingress "host" . }}{{ end -}}
{{- with get $v "ingress_class_name" }}{{ $_ := set $ingress "className" . }}{{ end -}}
{{- $_ := set $v "ingress" $ingress -}}
{{- end -}}

{{- $broker := deepCopy $v.broker -}}
{{- if or (not $broker.enabled) (has $broker.mode (list "external" "cluster")) -}}
{{- if eq $broker.mode "sentinel" }}{{ fail "broker.mode is sentinel, but broker.enabled is false or redis_host is set: the Redis is elsewhere, and mode is external" }}{{ end -}}
{{- $broker = mergeOverwrite $broker (dict "enabled" false "mode" (ternary "cluster" "external" (eq $broker.mode "cluster"))) -}}
{{- end -}}
{{- if eq $broker.mode "sentinel" -}}
{{- $affinity := deepCopy (default dict (default $v.affinity $broker.affinity)) -}}
{{- $term := dict "topologyKey" "kubernetes.io/hostname" "labelSelector" (dict "matchLabels" (include "milepost.selector" (list . "broker") | fromYaml)) -}}
{{- $apart := dict "preferred" (dict "preferredDuringSchedulingIgnoredDuringExecution" (list (dict "weight" 100 "podAffinityTerm" $term))) "required" (dict "requiredDuringSchedulingIgnoredDuringExecution" (list $term)) -}}
{{- with get $apart $broker.sentinel.antiAffinity }}{{ if not (get $affinity "podAntiAffinity") }}{{ $_ := set $affinity "podAntiAffinity" . }}{{ end }}{{ end -}}
{{- $_ := set $broker "affinity" $affinity -}}
{{- end -}}
{{- $_ := set $v "broker" $broker -}}

{{- $full := include "milepost.fullname" . -}}
{{- if not (regexMatch "^[a-z]([a-z0-9-]*[a-z0-9])?$" $full) -}}
{{- fail (printf "the names of objects would begin with %q, but Kubernetes wants lower-case letters, digits and hyphens, a letter first: choose another release name, nameOverride or fullnameOverride" $full) -}}
{{- end -}}
{{- if and $v.httpRoute.enabled (not $v.httpRoute.parentRefs) -}}
{{- fail "httpRoute.parentRefs: name the Gateway, such as [{name: public, namespace: gateways}]" -}}
{{- end -}}
{{- $_ := set $v "_components" (include "milepost.components" . | fromYaml) -}}
{{- with get $v._components "email" -}}
{{- $writers := int (default 1 (get . "writers")) -}}
{{- if gt $writers 1 -}}
{{- if ne $broker.mode "cluster" }}{{ fail "components.email.writers: several writers share the shards of a Redis Cluster, which is broker.mode cluster" }}{{ end -}}
{{- if gt $writers (int $broker.cluster.shards) }}{{ fail (printf "components.email.writers: %d writers are more than broker.cluster.shards, %d" $writers (int $broker.cluster.shards)) }}{{ end -}}
{{- if not (get .persistence "enabled") }}{{ fail "components.email.writers: each writer needs a volume of its own: set persistence.enabled" }}{{ end -}}
{{- /* Number 0 stays where it is, with its volume; the others are the pods 1, 2, … of a StatefulSet. */ -}}
{{- $env := merge (dict "EMAIL_WRITERS" (toString $writers)) .env -}}
{{- $_ := set $v._components "email-writers" (merge (dict "program" "email" "first" 1 "replicas" (sub $writers 1) "env" $env) (deepCopy .)) -}}
{{- $_ := set . "env" (merge (dict "EMAIL_WRITER" "0") $env) -}}
{{- end -}}
{{- end -}}
{{- range $name, $c := $v._components -}}
{{- if and (get $c.autoscaling "enabled") (get $c.keda "enabled") -}}
{{- fail (printf "components.%s: autoscaling and keda are both enabled; two scalers of one service would work against each other" $name) -}}
{{- end -}}
{{- if and (has "cache" $c.uses) (eq $broker.mode "cluster") (not (include "milepost.present" (list $ "cache"))) -}}
{{- fail (printf "broker.mode is cluster, but components.%s uses a cache and there is none: a cache cannot be on a Redis Cluster, so set cache.enabled or cache.external" $name) -}}
{{- end -}}
{{- range $scaler := list "autoscaling" "keda" -}}
{{- $s := get $c $scaler -}}
{{- if and (get $s "enabled") (gt (int $s.minReplicas) (int $s.maxReplicas)) -}}
{{- fail (printf "components.%s.%s: minReplicas is %d, which is above maxReplicas, %d" $name $scaler (int $s.minReplicas) (int $s.maxReplicas)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}
