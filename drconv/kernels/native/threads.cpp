// Compiled without OpenMP: the one entry point needed is taken from the runtime that torch has loaded, so that there
// are never two pools of threads, whatever library the compiler would have linked.
#include "threads.h"

#include "drconv_native.h"

namespace {

drconv_parallel parallel_region = nullptr;

struct Team {
  int64_t next, members, count;
  void (*task)(void*, int64_t, int64_t);
  void* data;
};

void work(void* given) {
  Team* team = static_cast<Team*>(given);
  const int64_t member = __atomic_fetch_add(&team->members, 1, __ATOMIC_RELAXED);
  for (;;) {
    const int64_t index = __atomic_fetch_add(&team->next, 1, __ATOMIC_RELAXED);
    if (index >= team->count) return;
    team->task(team->data, index, member);
  }
}

}  // namespace

extern "C" void drconv_set_parallel(drconv_parallel parallel) { parallel_region = parallel; }

void drconv_run_tasks(int64_t threads, int64_t count, void (*task)(void*, int64_t, int64_t), void* data) {
  if (threads > count) threads = count;
  if (threads <= 1 || !parallel_region) {
    for (int64_t index = 0; index < count; index++) task(data, index, 0);
    return;
  }
  Team team = {0, 0, count, task, data};
  parallel_region(work, &team, static_cast<unsigned>(threads), 0);
}
