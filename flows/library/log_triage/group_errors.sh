# The errors of a log by their kind: numbers and ids are taken out, so that what differs by these only is one kind.
# The result is {lines, levels, errors: [{count, service, message, first, last, known}], new}.

tool open_resource "{\"sourceKind\": \"file\", \"sourceId\": \"$INPUT_LOG\"}" | jq -j .content > all
tool open_resource "{\"sourceKind\": \"file\", \"sourceId\": \"$INPUT_KNOWN\"}" | jq -j .content |
  grep -v -e '^#' -e '^ *$' > known || true # grep fails where it finds nothing, which is no failure here

# TIME LEVEL SERVICE MESSAGE; anything else belongs to the line above it, such as a stack trace.
grep -E '^[0-9]{4}-[0-9]{2}-[0-9]{2}T[^ ]+ +(DEBUG|INFO|WARN|ERROR) ' all > lines || {
  echo "none of the $(wc -l < all) lines begins with a time and a level" >&2
  exit 1
}

# service, message without its request, time; then grouped by service and message
awk '$2 == "ERROR" { time = $1; service = $3; $1 = $2 = $3 = ""; print service "\t" substr($0, 4) "\t" time }' lines |
  sed -E 's/ req=[0-9a-f]+//; :again s/^([^\t]*\t.*)\b[0-9a-f]{8,}\b(.*\t)/\1ID\2/; t again' |
  sed -E ':again s/^([^\t]*\t[^\t]*)\b[0-9]+\b([^\t]*\t)/\1N\2/; t again' |
  awk -F '\t' -v OFS='\t' '
    { kind = $1 OFS $2; count[kind]++; last[kind] = $3; if (!(kind in first)) first[kind] = $3 }
    END { for (kind in count) print count[kind], kind, first[kind], last[kind] }' |
  sort -t $'\t' -k1,1rn -k2 > grouped

# A line of `known` is found as it is, anywhere in the message.
while IFS=$'\t' read -r count service message first last; do
  grep -qFf known <<< "$message" && known=true || known=false
  jq -nc --argjson count "$count" --arg service "$service" --arg message "$message" --arg first "$first" \
    --arg last "$last" --argjson known "$known" \
    '{count: $count, service: $service, message: $message, first: $first, last: $last, known: $known}'
done < grouped | jq -s . > errors.json

awk '{ print $2 }' lines | sort | uniq -c | awk '{ print $2 "\t" $1 }' |
  jq -Rn '[inputs / "\t" | {(.[0]): (.[1] | tonumber)}] | add' > levels.json

jq -n --argjson lines "$(wc -l < lines)" --slurpfile levels levels.json --slurpfile errors errors.json \
  '{lines: $lines, levels: $levels[0], errors: $errors[0], new: [$errors[0][] | select(.known | not)]}' > "$RESULT"
