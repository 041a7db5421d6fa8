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

Result<CaseId> pick_case(Opened& opened, const std::string& typed) {
  SP_TRY(const auto cases, opened.session->cases());
  return find_case_id(typed, cases);
}

std::optional<DeniedBy> find_denial(const api::CaseView& view) {
  for (const api::EntryView& one : view.entries) {
    if (one.entry.leaf.kind != static_cast<std::uint8_t>(record::Kind::kDenial)) continue;
    const auto body = record::parse_body(one.entry.body);
    if (!body.has_value()) continue;
    const auto envelope = record::open_envelope(*body);
    if (!envelope.has_value()) continue;
    const auto denial = record::parse_denial(envelope->payload);
    if (denial.has_value()) return DeniedBy{denial->approver, denial->reason, one.entry.leaf.time};
  }
  return std::nullopt;
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
