#!/bin/sh
# Gather the catalogues of Debian's programs in one language: about 1,680 packages of at most 30 MB, 2 GB in all,
# each unpacked and left again; nothing is installed. As root, for apt; a few minutes.
#
#   sh examples/catalogues.sh de FOLDER
set -eu
language=$1 folder=$2
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
apt-get install -qq -y apt-file >/dev/null
apt-get update -qq
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
apt-file -l search "/usr/share/locale/$language/LC_MESSAGES/" >names
xargs apt-cache show --no-all-versions <names |
  awk '/^Package: /{name = $2} /^Size: /{if ($2 < 3e7) print name}' | sort -u >small
split -l 40 small few.
for few in few.*; do
  xargs apt-get download -qq -o APT::Sandbox::User=root <"$few"
  for package in ./*.deb; do
    dpkg-deb --extract "$package" unpacked
    find "unpacked/usr/share/locale/$language/LC_MESSAGES" -name '*.mo' -exec cp -n {} "$folder" \; 2>/dev/null || true
    rm -rf unpacked "$package"
  done
done
echo "$(ls "$folder" | wc -l) catalogues in $folder"
