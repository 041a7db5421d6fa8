#include "client/evidence/commands.h"

namespace sallyport::client::evidence_tools {

std::vector<Command> commands() {
  std::vector<Command> all{replay_command(),          show_command(),          appraise_command(),
                           verify_ek_command(),       ima_command(),           reference_check_command(),
                           reference_learn_command(), reference_diff_command()};
  for (Command& one : all) one.pin_for = {};  // no token is opened
  return all;
}

}  // namespace sallyport::client::evidence_tools
