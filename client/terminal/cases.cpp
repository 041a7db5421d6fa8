#include "client/terminal/cases.h"

#include "client/terminal/render.h"

namespace sallyport::client {
namespace {

constexpr std::chrono::milliseconds kPoll{5'000};

Error wrong_body(std::string what) {
  return Error{Code::kUnverified, Reason::kLogBody, std::move(what)};
}

}  // namespace

Result<record::Body> open_shown(const LeafAt& leaf_at, const CaseId& case_id, const api::EntryView& one) {
  SP_TRY(const ledger::Leaf leaf, leaf_at(LeafIndex{one.index}));
  if (leaf != one.entry.leaf) return wrong_body("the broker shows another leaf than the log has");
  if (leaf.case_id != case_id) return wrong_body("the broker shows a leaf of another case");
  record::Entry bare = one.entry;
  bare.blobs.clear();
  return record::open_body(bare);
}

LeafAt leaves_of(Opened& opened) {
  return [&opened](LeafIndex index) { return opened.session->follower().leaf(index); };
}

Result<CaseId> pick_case(Opened& opened, const std::string& typed) {
  SP_TRY(const auto cases, opened.session->cases());
  return find_case_id(typed, cases);
}

std::optional<DeniedBy> find_denial(const LeafAt& leaf_at, const api::CaseView& view) {
  for (const api::EntryView& one : view.entries) {
    if (one.entry.leaf.kind != static_cast<std::uint8_t>(record::Kind::kDenial)) continue;
    const auto denial = [&]() -> Result<record::Denial> {
      SP_TRY(const record::Body body, open_shown(leaf_at, view.case_id, one));
      SP_TRY(const record::Envelope envelope, record::open_envelope(body));
      return record::parse_denial(envelope.payload);
    }();
    if (denial.has_value()) return DeniedBy{denial->approver, denial->reason, one.entry.leaf.time};
  }
  return std::nullopt;
}

std::optional<DeniedBy> find_denial(Opened& opened, const api::CaseView& view) {
  auto denied = find_denial(leaves_of(opened), view);
  if (!denied && view.state == "denied" && opened.session->sync().has_value())
    denied = find_denial(leaves_of(opened), view);
  return denied;
}

std::string denial_text(const DeniedBy& denied, UnixMillis now) {
  return printable(denied.person) + " " + relative(denied.time, now) + ": \"" + printable(denied.reason) +
         "\"";
}

bool wait_cosigned(Opened& opened, LeafIndex index, record::Kind kind, const CaseId& case_id) {
  const auto began = std::chrono::steady_clock::now();
  while (opened.session->control()->size().get() <= index.get()) {
    if (std::chrono::steady_clock::now() - began >= kProofPatience) return false;
    if (!opened.session->sync(kPoll).has_value()) return false;
  }
  const auto leaf = opened.session->follower().leaf(index);
  return leaf.has_value() && leaf->case_id == case_id && leaf->kind == static_cast<std::uint8_t>(kind);
}

}  // namespace sallyport::client
