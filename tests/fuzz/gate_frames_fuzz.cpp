#include <cstddef>
#include <cstdint>

#include "attestation/base/error.h"
#include "client/target/check.h"
#include "client/target/config.h"
#include "client/target/protocol.h"
#include "client/target/thin_client.h"

using namespace sallyport;

namespace {

// What parses has one spelling: encoding it gives the bytes back.
template <class Parse>
void expect_one_spelling(ByteView frame, const Parse& parse) {
  const auto value = parse(frame);
  if (value) SP_ASSERT(equal(gate::encode(*value), frame));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const ByteView input{data, size};
  expect_one_spelling(input, gate::parse_ask);
  expect_one_spelling(input, gate::parse_answer);
  expect_one_spelling(input, gate::parse_window);
  expect_one_spelling(input, gate::parse_keeper_order);
  expect_one_spelling(input, gate::parse_keeper_report);
  const std::string_view text = as_text(input);
  if (const auto options = gate::parse_sshd_options(text))
    (void)gate::check_sshd_options(*options, "/usr/sbin/sallyport-gate");
  if (const auto config = gate::parse_config(text)) SP_ASSERT(!config->accounts.empty());
  (void)gate::parse_user_auth(text).has_value();
  SP_ASSERT(gate::parse_peer_address(text).size() <= 64);
  return 0;
}
