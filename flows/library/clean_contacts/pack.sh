# One archive of what the steps before left, with checksums. What it holds is the result.
mkdir contacts
cp clean/contacts.csv clean/rejected.csv report/report.html contacts
(cd contacts && sha256sum -- * > SHA256SUMS)
tar --sort=name --mtime=@0 --owner=0 --group=0 -czf "$ARTIFACTS/contacts.tar.gz" contacts
tar -tzf "$ARTIFACTS/contacts.tar.gz" | grep -v '/$' | jq -R . | jq -s . > "$RESULT"
