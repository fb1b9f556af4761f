// Compiled without OpenMP: the one entry point needed is taken from the runtime that torch has loaded, so that there
// are never two pools of threads, whatever library the compiler would have linked.
#include "threads.h"

#include "drconv_native.h"

namespace {

drconv_parallel parallel_region = nullptr;
drconv_team_number team_number = nullptr, team_size = nullptr;

struct Team {
  int64_t taken, count;
  void (*task)(void*, int64_t, int64_t);
  void* data;
};

void work(void* given) {
  Team* team = static_cast<Team*>(given);
  // A thread keeps its number, and with it its scratch memory and its first task, from call to call: what it wrote
  // last is still in its own cache, and not in another's.
  const int64_t number = team_number(), members = team_size();
  for (int64_t index = number; index < team->count;) {
    team->task(team->data, index, number);
    index = members + __atomic_fetch_add(&team->taken, 1, __ATOMIC_RELAXED);
  }
}

}  // namespace

extern "C" void drconv_set_parallel(drconv_parallel parallel, drconv_team_number number, drconv_team_number size) {
  parallel_region = parallel;
  team_number = number;
  team_size = size;
}

void drconv_run_tasks(int64_t threads, int64_t count, void (*task)(void*, int64_t, int64_t), void* data) {
  if (threads > count) threads = count;
  if (threads <= 1 || !parallel_region) {
    for (int64_t index = 0; index < count; index++) task(data, index, 0);
    return;
  }
  Team team = {0, count, task, data};
  parallel_region(work, &team, static_cast<unsigned>(threads), 0);
}
