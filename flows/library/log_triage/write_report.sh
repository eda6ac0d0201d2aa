# The report as Markdown: shown in the log of the run, and kept as a document.

row='| %5s | %-9s | %-46s | %-8s | %-5s |\n'
{
  printf "$row" times service error last ''
  printf "$row" ----: --------- "$(printf '%46s' '' | tr ' ' -)" -------- -----
  jq -r '.errors[] | [.count, .service, .message, .last[11:19], (if .known then "known" else "new" end)] | @tsv' \
    "$INPUTS" |
    while IFS=$'\t' read -r count service message last known; do
      printf "$row" "$count" "$service" "$message" "$last" "$known"
    done
  printf '\n%s\n' "Requests of more than $INPUT_SLOW_MS ms: $(jq '.slow | length' "$INPUTS")"
  jq -r '.slow[:10][] | "- \(.ms) ms \(.request)"' "$INPUTS"
} | tee report.md

jq -n --arg id "$INPUT_DOCUMENT" --rawfile report report.md \
  '{docId: $id, name: "Log triage", content: ("# Log triage\n\n" + $report), createIfMissing: true}' |
  tool update_doc - > /dev/null
