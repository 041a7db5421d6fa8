#include "client/evidence/commands.h"

namespace sallyport::client::evidence_tools {

std::vector<Command> commands() {
  return {replay_command(),          show_command(),          appraise_command(),
          verify_ek_command(),       ima_command(),           reference_check_command(),
          reference_learn_command(), reference_diff_command()};
}

}  // namespace sallyport::client::evidence_tools
