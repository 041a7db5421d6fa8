#include "client/evidence/commands.h"

namespace sallyport::client::evidence_tools {

std::vector<Command> commands() {
  return {replay_command(), show_command(), verify_ek_command(), ima_command()};
}

}  // namespace sallyport::client::evidence_tools
