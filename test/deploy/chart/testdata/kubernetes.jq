# Makes kubernetes-1.27.json, and likewise 1.33, of api/openapi-spec/swagger.json in k8s.io/kubernetes@v1.27.16:
#   jq -c -f kubernetes.jq swagger.json > kubernetes-1.27.json
# It keeps the kinds that the chart renders and what they refer to, without texts, and allows no other fields.

def refs: [.. | objects | .["$ref"]? // empty | ltrimstr("#/definitions/")];
def closed($all): (. + [$all[.[]] | refs[]] | unique) as $more | if $more == . then . else $more | closed($all) end;
def strict: walk(
  if type != "object" then .
  elif .format? == "date-time" then {type: ["string", "null"]}
  elif .format? == "int-or-string" or (.description? | strings | startswith("Quantity is")) // false
  then {type: ["string", "integer", "number"]}
  else del(.description | strings) | del(.format | strings) | del(.default)
    | with_entries(select(.key | startswith("x-kubernetes") | not))
    | if .properties | type == "object" then .additionalProperties = false else . end
  end);

.definitions as $all | ([
    "core.v1.ConfigMap", "core.v1.PersistentVolumeClaim", "core.v1.Pod", "core.v1.Secret", "core.v1.Service",
    "core.v1.ServiceAccount", "apps.v1.Deployment", "apps.v1.StatefulSet", "autoscaling.v2.HorizontalPodAutoscaler",
    "networking.v1.Ingress", "networking.v1.NetworkPolicy", "policy.v1.PodDisruptionBudget"
  ] | map("io.k8s.api." + .) | unique | closed($all)) as $kept
| {definitions: ($all | with_entries(select(.key | IN($kept[]))) | map_values(strict))}
