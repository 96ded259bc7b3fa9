#!/usr/bin/env bash
# Fetches the music that the shipped model was distilled on: the soundtracks of games in Debian.
#
#   benchmarks/fetch_unlabelled.sh FOLDER [PACKAGE...]
#
# Each package becomes FOLDER/PACKAGE, with its recordings (also those inside .zip and .pk3 files)
# and its copyright file, and nothing else. Packages that are there already are left alone, so that
# the script can be broken off and started again. It needs a Debian or Ubuntu (apt-get, dpkg-deb),
# unzip, and 5 GB of disk while it runs; nothing is installed.
set -euo pipefail

packages=(
  0ad-data ardentryst asc-music berusky2-data boswars-data colobot-common-sounds
  endless-sky-data extremetuxracer-data flare-game freedroidrpg-data fretsonfire-songs-muldjord
  fretsonfire-songs-sectoid frozen-bubble-data funnyboat gunroar-data hedgewars-data
  lincity-ng-data lugaru-data marsshooter-data megaglest-data naev-data nexuiz-music noiz2sa-data
  openclonk-data parsec47-data powermanga-data redeclipse-data scorched3d-data singularity-music
  solarwolf supertux-data supertuxkart-data titanion-data torcs-data tumiki-fighters-data
  ufoai-music unknown-horizons warzone2100-music wesnoth-1.16-music widelands-data xmoto-data
)
recordings=('*.ogg' '*.oga' '*.opus' '*.mp3' '*.flac')

if (($# < 1)); then
  echo "usage: $0 FOLDER [PACKAGE...]" >&2
  exit 2
fi
folder=$(mkdir -p "$1" && cd "$1" && pwd)
shift
if (($# > 0)); then packages=("$@"); fi

# Arguments of find that mean any of the recordings.
wanted=(-name "${recordings[0]}")
for pattern in "${recordings[@]:1}"; do wanted+=(-o -name "$pattern"); done

work=$(mktemp -d "$folder/.fetch.XXXXXX")
trap 'rm -rf "$work"' EXIT
failed=()
for package in "${packages[@]}"; do
  if [[ -d $folder/$package ]]; then continue; fi
  rm -rf "${work:?}"/*
  if ! (cd "$work" && apt-get download -q "$package" >/dev/null 2>&1); then
    failed+=("$package")
    echo "$package: not to be had" >&2
    continue
  fi
  dpkg-deb -x "$work"/*.deb "$work/$package"
  rm "$work"/*.deb
  find "$work/$package" -type f \( -name '*.zip' -o -name '*.pk3' \) -print0 |
    while IFS= read -r -d '' archive; do
      # It complains where an archive holds none of them.
      unzip -q -o "$archive" "${recordings[@]}" -d "$archive.unpacked" 2>/dev/null || true
    done
  find "$work/$package" -type f ! \( "${wanted[@]}" -o -name copyright \) -delete
  find "$work/$package" -type l -delete
  find "$work/$package" -type d -empty -delete
  mv "$work/$package" "$folder/$package"
  echo "$package: $(find "$folder/$package" -type f \( "${wanted[@]}" \) | wc -l) recordings"
done
if ((${#failed[@]})); then
  echo "not fetched: ${failed[*]}" >&2
  exit 1
fi
