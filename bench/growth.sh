# shellcheck shell=bash disable=SC2034,SC2154  # variables of run.sh and common.sh
# How the cost of a batch run grows: with the history, and with what is new.

# One run over EVENTS that are folded. usage: run_growth KIND SIZE EVENTS [ARGUMENT]...
run_growth() {
    local label="$2 events, $1"
    section=unused run_batch "run" "${@:4}"
    [ "$process_count" = "$3" ] || fail "$label: $process_count records were folded, not $3"
    note "$label" "s" "$batch_wall"
    note "$label: CPU" "s" "$batch_cpu"
    note "$label: each" "µs" "$(calc %.4f "$batch_wall * 1e6 / $3")"
    note "$label: CPU of each" "µs" "$(calc %.4f "$batch_cpu * 1e6 / $3")"
}

# A history of SIZE events in a topic of its own, in an empty database. usage: grow SIZE TOPIC
grow() {
    local size=$1 more folder=$work/$2
    mkdir -p "$folder/sources"
    cp -r schemas/views "$folder/views"
    jq --arg topic "$2" '.topic = $topic' schemas/sources/flights.json > "$folder/sources/flights.json"
    config=$folder/dovetail.json
    write_config "$config" "$folder" "$folder/archive"
    fresh_database
    produced=0
    produce < <(head -n "$size" "$flights")
    run_growth "first run" "$size" "$size"
    run_growth "full run" "$size" "$size" --full
    more=$((size / 100))
    produce < <(tail -n "$more" "$flights")
    run_growth "1 % new" "$size" "$more"
    more=$((size / 10))
    produce < <(tail -n "$more" "$flights")
    run_growth "10 % new" "$size" "$more"
    check_total flights_total "$produced"
    step "$size events: first run, full run, 1 % and 10 % new; load average $(cut -d' ' -f1 /proc/loadavg)"
    rm -rf "$folder"
}

# Medians for each event beside those of the smallest history.
compare_growth() {
    local size kind what
    for kind in "first run" "full run" "1 % new" "10 % new"; do
        for what in each "CPU of each"; do
            for size in $((records / 10)) "$records"; do
                note_ratio "$size events, $kind: $what / $((records / 100)) events" \
                    "$(median "$size events, $kind: $what")" \
                    "$(median "$((records / 100)) events, $kind: $what")"
            done
        done
    done
}

section_growth() {
    local i size before=$produced
    section="9 Growth of a batch run's cost"
    say "$section"
    for ((i = 1; i <= (runs < 3 ? runs : 3); i++)); do
        for size in $((records / 100)) $((records / 10)) "$records"; do
            grow "$size" "growth_${size}_$i"
        done
    done
    sed -i '/^unused/d' "$results"
    compare_growth
    produced=$before
}
