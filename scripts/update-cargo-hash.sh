#!/usr/bin/env bash
# Writes the hash of what Cargo.lock names into flake.nix: gives nix a wrong one, and takes the right one from its refusal. Leaves
# flake.nix as it was where that fails.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() { # what, and the way out
    printf 'error: %s\n\nhint: %s\n' "$1" "$2" >&2
    exit 1
}

set_hash() {
    # Into another file first: sed -i is not the same on Linux and macOS.
    sed "s|cargoHash = \"[^\"]*\";|cargoHash = \"$1\";|" flake.nix >"$folder/flake.nix"
    cat "$folder/flake.nix" >flake.nix
}

command -v nix >/dev/null || fail "nix is missing" "install it, see https://nixos.org/download; only flake.nix needs the hash, cargo does not"
old=$(sed -n 's/.*cargoHash = "\([^"]*\)";.*/\1/p' flake.nix)
[ "$(wc -w <<<"$old")" -eq 1 ] || fail "flake.nix does not hold one line \`cargoHash = \"…\";\`" "git checkout flake.nix"

folder=$(mktemp -d)
new=$old
trap 'set_hash "$new"; rm -rf "$folder"' EXIT
trap 'exit 1' HUP INT TERM
set_hash sha256-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=
echo "Getting what Cargo.lock names (50 MB) ..." >&2
nix --extra-experimental-features 'nix-command flakes' build --no-link .#default.cargoDeps >"$folder/log" 2>&1 &&
    fail "nix took a wrong hash" "is \`cargoHash\` still what flake.nix uses?"
got=$(sed -n 's/.*got: *\(sha256-[A-Za-z0-9+\/=]*\).*/\1/p' "$folder/log" | head -1)
if [ -z "$got" ]; then
    cat "$folder/log" >&2
    fail "nix did not say which hash it wants" "its messages stand above"
fi
new=$got
[ "$new" = "$old" ] && echo "flake.nix has the right hash: $new" || echo "flake.nix: $old is now $new"
