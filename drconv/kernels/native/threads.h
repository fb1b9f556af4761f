// Tasks over the threads of the process's own OpenMP runtime.
#pragma once

#include <stdint.h>

// Calls task(data, index, thread) for every index below `count`, `thread` being below `threads`. Opens no parallel
// region for one thread or one task, so that a process without threads may be forked.
void drconv_run_tasks(int64_t threads, int64_t count, void (*task)(void* data, int64_t index, int64_t thread),
                      void* data);
