/* Progress of a stage: see progress.h. Nothing here can fail; what cannot be written is dropped. */
#include "batch_layer/progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/program/program.h"

enum { BAR_CELLS = 24, DRAW_INTERVAL_US = 100000 };

void progress_begin(struct progress *progress, const char *stage, const char *unit, int64_t total)
{
    *progress = (struct progress){.stage = stage,
                                  .unit = unit,
                                  .total = total,
                                  .begun_us = program_monotonic_us(),
                                  .terminal = isatty(STDERR_FILENO) == 1};
    progress->drawn_us = progress->begun_us;
}

void progress_update(struct progress *progress, int64_t done)
{
    int64_t now_us = program_monotonic_us();
    if (!progress->terminal || now_us - progress->drawn_us < DRAW_INTERVAL_US)
        return;
    progress->drawn_us = now_us;
    progress->drawn = true;
    double seconds = (double)(now_us - progress->begun_us) / 1e6;
    double rate = (double)done / seconds;
    char line[160];
    if (progress->total > 0) {
        double share = done < progress->total ? (double)done / (double)progress->total : 1;
        char bar[BAR_CELLS + 1];
        memset(bar, '.', BAR_CELLS);
        memset(bar, '#', (size_t)(share * BAR_CELLS));
        bar[BAR_CELLS] = '\0';
        double left = rate > 0 ? (double)(progress->total - done) / rate : 0;
        snprintf(line, sizeof line, "\r%-8s [%s] %3.0f%%  %.0f %s/s, %.0f s left\033[K",
                 progress->stage, bar, share * 100, rate, progress->unit, left > 0 ? left : 0);
    } else {
        snprintf(line, sizeof line, "\r%-8s %" PRId64 " %s, %.0f/s\033[K", progress->stage, done,
                 progress->unit, rate);
    }
    fputs(line, stderr);
}

double progress_end(struct progress *progress, int64_t done)
{
    double ms = (double)(program_monotonic_us() - progress->begun_us) / 1e3;
    if (progress->drawn)
        fputs("\r\033[K", stderr);
    if (!progress->terminal)
        program_log(LOG_INFO, "%s: %" PRId64 " %s in %.0f ms", progress->stage, done,
                    progress->unit, ms);
    return ms;
}
