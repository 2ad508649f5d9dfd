#!/usr/bin/env bash
# Updates `cargoHash` in flake.nix, the hash of the dependencies in Cargo.lock: gives nix a wrong hash, and reads the right one from its error.
# If that fails, flake.nix stays unchanged.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() { # MESSAGE HINT
    printf 'error: %s\n\nhint: %s\n' "$1" "$2" >&2
    exit 1
}

set_hash() {
    # Writes to another file first: sed -i differs between Linux and macOS.
    sed "s|cargoHash = \"[^\"]*\";|cargoHash = \"$1\";|" flake.nix >"$folder/flake.nix"
    cat "$folder/flake.nix" >flake.nix
}

command -v nix >/dev/null || fail "nix is missing" "install it, see https://nixos.org/download; only flake.nix needs the hash, cargo does not"
old=$(sed -n 's/.*cargoHash = "\([^"]*\)";.*/\1/p' flake.nix)
[ "$(wc -w <<<"$old")" -eq 1 ] || fail "flake.nix does not contain exactly one line \`cargoHash = \"…\";\`" "run git checkout flake.nix"

folder=$(mktemp -d)
new=$old
trap 'set_hash "$new"; rm -rf "$folder"' EXIT
trap 'exit 1' HUP INT TERM
set_hash sha256-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=
echo "Getting the dependencies in Cargo.lock (50 MB) ..." >&2
nix --extra-experimental-features 'nix-command flakes' build --no-link .#default.cargoDeps >"$folder/log" 2>&1 &&
    fail "nix accepted a wrong hash" "check that flake.nix still uses \`cargoHash\`"
got=$(sed -n 's/.*got: *\(sha256-[A-Za-z0-9+\/=]*\).*/\1/p' "$folder/log" | head -1)
if [ -z "$got" ]; then
    cat "$folder/log" >&2
    fail "nix did not print the hash that it expected" "see its messages above"
fi
new=$got
[ "$new" = "$old" ] && echo "flake.nix has the right hash: $new" || echo "flake.nix: $old is now $new"
