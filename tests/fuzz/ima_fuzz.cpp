// What ImaList::parse takes is whole entries, each within the list and appraised without a break; parts of
// it, parsed one after the other, come to the same PCR 10 as the whole. The first byte chooses: a list with
// template digests of SHA-1 or of SHA-256, or an allow list.
#include <algorithm>

#include "attestation/crypto/digest.h"
#include "attestation/evidence/ima_appraisal.h"

using namespace sallyport;
using namespace sallyport::evidence;

namespace {

// The key of nobody: signatures are looked at, and none verifies.
const ImaRules& rules() {
  static const ImaRules made = [] {
    ImaRules out;
    ByteArray<32> x{0x6b, 0x17, 0xd1, 0xf2, 0xe1, 0x2c, 0x42, 0x47, 0xf8, 0xbc, 0xe6,
                    0xe5, 0x63, 0xa4, 0x40, 0xf2, 0x77, 0x03, 0x7d, 0x81, 0x2d, 0xeb,
                    0x33, 0xa0, 0xf4, 0xa1, 0x39, 0x45, 0xd8, 0x98, 0xc2, 0x96};
    ByteArray<32> y{0x4f, 0xe3, 0x42, 0xe2, 0xfe, 0x1a, 0x7f, 0x9b, 0x8e, 0xe7, 0xeb,
                    0x4a, 0x7c, 0x0f, 0x9e, 0x16, 0x2b, 0xce, 0x33, 0x57, 0x6b, 0x31,
                    0x5e, 0xce, 0xcb, 0xb6, 0x40, 0x68, 0x37, 0xbf, 0x51, 0xf5};
    SP_ASSERT(out.keys.add(*crypto::PublicKey::from_p256(x, y)).has_value());
    return out;
  }();
  return made;
}

std::string told(const Result<JudgedIma>& judged) {
  if (!judged.has_value()) return judged.error().what;
  return std::to_string(judged->entries()) + " " + std::to_string(judged->tally().violations);
}

// check_parts: a memo of the first part changes nothing in the judgement of both.
void check_parts(std::initializer_list<ByteView> bytes, const ReplayedIma& whole) {
  static const ImaReference reference =
      *ImaReference::make({.keys = {},
                           .files = "sha256:" + std::string(64, '0') + " /a\n",
                           .violations = true,
                           .padded_sha1 = true});
  std::vector<ImaPart> parts;
  for (const ByteView part : bytes) parts.push_back({crypto::sha256(part), part});
  ImaMemo memo;
  for (std::size_t count = 1; count <= parts.size(); ++count) {
    const auto list = ImaList::parse(to_bytes(parts[0].bytes));
    const auto at = count == 2 ? Result{whole}
                               : replay_ima(*list, ImaPosition::start(LogAlgorithm::kSha256),
                                            *whole.position().extension);
    ByteArray<32> pcr10{};
    std::copy_n(at->position().pcr10().begin(), pcr10.size(), pcr10.begin());
    const auto judged = judge_ima_parts(std::span{parts}.first(count), Digest256{pcr10}, reference);
    SP_ASSERT(told(judged) ==
              told(judge_ima_parts(std::span{parts}.first(count), Digest256{pcr10}, reference, &memo)));
    if (judged.has_value()) memo.add(*judged);
  }
}

void check_list(ByteView bytes, LogAlgorithm own) {
  const auto list = ImaList::parse(to_bytes(bytes), own);
  if (!list.has_value()) {
    SP_ASSERT(list.error().reason == Reason::kImaForm);
    return;
  }
  const auto start = ImaPosition::start(LogAlgorithm::kSha256);
  for (const ImaExtension extension : {ImaExtension::kOwnHash, ImaExtension::kPaddedSha1}) {
    const auto whole = replay_ima(*list, start, extension);
    SP_ASSERT(whole.has_value() && whole->position().offset == (list->entries().empty() ? 0 : bytes.size()));
    const auto found = find_unexpected_ima(*whole, rules());
    SP_ASSERT(found.has_value() != appraise_ima(*whole, rules()).has_value());
    const auto again = replay_ima_to(*list, start, whole->position().pcr10());
    SP_ASSERT(again.has_value() && again->position() == whole->position());
    if (list->entries().empty()) continue;
    const std::size_t cut = list->entries().front().end;
    const auto first = ImaList::parse(to_bytes(bytes.first(cut)), own);
    const auto rest = ImaList::parse(to_bytes(bytes.subspan(cut)), own);
    SP_ASSERT(first.has_value() && rest.has_value());
    const auto begun = replay_ima(*first, start, extension);
    const auto ended = replay_ima(*rest, begun->position(), extension);
    SP_ASSERT(ended.has_value() && ended->position() == whole->position());
    if (own == LogAlgorithm::kSha1) check_parts({first->bytes(), rest->bytes()}, *whole);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const ByteView rest{data + 1, size - 1};
  if (data[0] == 0)
    check_list(rest, LogAlgorithm::kSha1);
  else if (data[0] == 1)
    check_list(rest, LogAlgorithm::kSha256);
  else if (const auto list = ImaAllowList::parse(as_text(rest)); !list.has_value())
    SP_ASSERT(list.error().reason == Reason::kImaForm);
  return 0;
}
