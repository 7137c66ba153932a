#!/bin/sh
# Makes the runs and the files of figures of docs/results/results.md and the six pages below it: preset small, five seeds.
# The page says how long it took and on what.
#   SIGHTSOUND=DIR OFFICIAL=DIR [OUT=runs] [JOBS=2] [SEEDS=5] docs/results/results.sh
# SIGHTSOUND is the folder of sightsound, to which class vectors are added; OFFICIAL has UCF/ with the class vectors of
# UCF-GZSL. Finished runs are kept, so an interrupted one goes on when repeated. A part that fails does not stop the
# others.
set -u
OUT=${OUT:-runs} JOBS=${JOBS:-2} SEEDS=${SEEDS:-5}
failed=0

reproduce() {
    sacma reproduce "$@" --out "$OUT" --jobs "$JOBS" --seeds "$SEEDS" --like ours || failed=1
}

sightsound() {
    reproduce "$@" --benchmark sightsound --features main_features_non_averaged --root "$SIGHTSOUND" \
        --audio-step 0.48 --video-step 1
}

avshapes() {
    reproduce "$@" --benchmark avshapes --features descriptors
}

both() {
    sightsound "$@"
    avshapes "$@"
}

# Keeps the figures of a study in docs/data, from where docs/figures.py puts them into the pages.
keep() {
    python "$(dirname "$0")/../figures.py" --take "$OUT/$1" "$2" --command "sacma reproduce $3" || failed=1
}

sacma reproduce table1 --out "$OUT" || failed=1
for table in table2 table3 table5 table6 table7; do
    both $table
done
sightsound alignment --row '[sacma-aligned,sacma-rotated,tcaf-aligned,tcaf-rotated]'

# The vectors of other encoders go beside those that both sets have.
for encoder in sentence glove; do
    sacma text build --encoder $encoder --name $encoder --benchmark avshapes --force || failed=1
    sacma text build --encoder $encoder --name $encoder --benchmark sightsound --root "$SIGHTSOUND" \
        --features main_features_non_averaged --force || failed=1
done
both table4 --row '[sacma,sentence,glove]'

simulated="$OUT/simulated-ucf"
for noise in 0.5 1 2 4; do
    [ -f "$simulated/features/simulated-$noise/clips.json" ] ||
        sacma data simulate --like ucf --root "$simulated" --text "$OFFICIAL" --clips-share 0.1 \
            --noise $noise --features simulated-$noise || failed=1
done
reproduce alignment --benchmark ucf --features '[simulated-0.5,simulated-1,simulated-2,simulated-4]' \
    --root "$simulated" --row '[sacma-aligned,sacma-published,tcaf-aligned,tcaf-published]'

both figure3
both figure4

for set in sightsound-main_features_non_averaged avshapes-descriptors; do
    short=${set%%-*}
    for table in table2 table3 table4 table5 table6 table7; do
        keep "$set-main-ours/$table.md" "$table-$short" "$table --benchmark $short --like ours --seeds $SEEDS"
    done
    keep "$set-main-ours/figure4.csv" "figure4-$short" "figure4 --benchmark $short --like ours --seeds $SEEDS"
done
keep sightsound-main_features_non_averaged-main-ours/alignment.md alignment-sightsound \
    "alignment --benchmark sightsound --like ours --seeds $SEEDS"
keep "ucf-simulated-0.5+simulated-1+simulated-2+simulated-4-main-ours/alignment.md" alignment-ucf \
    "alignment --benchmark ucf --like ours --seeds $SEEDS"
exit $failed
