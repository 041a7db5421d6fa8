#include "attestation/api/messages.h"

#include "attestation/base/base64.h"
#include "attestation/base/hex.h"
#include "attestation/record/canonical_json.h"

namespace sallyport::api {
namespace {

using record::json::encode_canonical;
using record::json::Fields;
using record::json::Member;
using record::json::parse_canonical;
using record::json::Value;

constexpr std::size_t kMaxId = 128, kMaxText = 4096, kMaxNote = 16u << 10;
constexpr std::size_t kMaxCases = 4096, kMaxItems = 256;

std::string code_text(const std::optional<Reason>& code) {
  return code ? std::string{reason_name(*code)} : "";
}

Result<std::optional<Reason>> read_code(Fields& in) {
  SP_TRY(const std::string name, in.text("code", 64, 0));
  if (name.empty()) return std::optional<Reason>{};
  const auto reason = find_reason(name);
  if (!reason) return in.wrong("code", "no known reason");
  return std::optional{*reason};
}

// A field of up to `max` bytes, "" allowed.
Result<std::string> read_text(Fields& in, std::string_view name, std::size_t max = kMaxText) {
  return in.text(name, max, 0);
}

template <std::size_t N>
Result<ByteArray<N>> read_fixed(Fields& in, std::string_view name) {
  SP_TRY(const Bytes bytes, in.base64(name, N, N));
  ByteArray<N> out;
  std::memcpy(out.data(), bytes.data(), N);
  return out;
}

// with_fields parses one object and hands its fields to `read`, which must take them all.
template <class T, class Read>
Result<T> with_fields(ByteView json, std::string where, Read&& read) {
  SP_TRY(const Value value, parse_canonical(json, kMaxMessageBytes));
  SP_TRY(Fields in, Fields::of(value, std::move(where)));
  T out;
  SP_CHECK(read(in, out));
  SP_CHECK(in.finish());
  return out;
}

Value case_value(const CaseView& view, bool entries) {
  Value::Array approvals, quorum, entry_values;
  for (const ApprovalView& a : view.approvals)
    approvals.push_back(Value::object({{"approver", a.approver},
                                       {"attested", Value{a.attested}},
                                       {"leaf", a.leaf},
                                       {"time", a.time.get()}}));
  for (const ClauseView& c : view.quorum) {
    Value::Array people;
    for (const std::string& person : c.people) people.emplace_back(person);
    quorum.push_back(Value::object(
        {{"group", c.group}, {"have", c.have}, {"needed", c.needed}, {"people", std::move(people)}}));
  }
  std::vector<Member> members{{"account", view.account},
                              {"approvals", std::move(approvals)},
                              {"beneficiary", view.beneficiary},
                              {"case", to_hex(view.case_id)},
                              {"code", code_text(view.code)},
                              {"detail", view.detail},
                              {"expires", view.expires.get()},
                              {"host", view.host},
                              {"kind", view.kind},
                              {"may", view.may},
                              {"opened", view.opened.get()},
                              {"person", view.person},
                              {"quorum", std::move(quorum)},
                              {"reason", view.reason},
                              {"resource", view.resource},
                              {"rule", view.rule},
                              {"state", view.state},
                              {"to_approve", view.to_approve}};
  if (entries) {
    for (const EntryView& e : view.entries)
      entry_values.push_back(Value::object({{"body", to_base64(e.entry.body)},
                                            {"index", e.index},
                                            {"leaf", to_base64(ledger::encode_leaf(e.entry.leaf))},
                                            {"nonce", to_hex(e.entry.nonce)}}));
    members.push_back({"entries", std::move(entry_values)});
  }
  return Value::object(std::move(members));
}

Result<CaseView> read_case(const Value& value, bool entries) {
  SP_TRY(Fields in, Fields::of(value, "case"));
  CaseView view;
  SP_TRY(view.account, read_text(in, "account", kMaxId));
  SP_TRY(const auto* approvals, in.array("approvals", kMaxItems));
  for (const Value& item : *approvals) {
    SP_TRY(Fields a, Fields::of(item, "case.approvals"));
    ApprovalView approval;
    SP_TRY(approval.approver, a.text("approver", kMaxId));
    SP_TRY(approval.attested, a.boolean("attested"));
    SP_TRY(approval.leaf, a.integer("leaf"));
    SP_TRY(const std::uint64_t time, a.integer("time"));
    approval.time = UnixMillis{time};
    SP_CHECK(a.finish());
    view.approvals.push_back(std::move(approval));
  }
  SP_TRY(view.beneficiary, read_text(in, "beneficiary", kMaxId));
  SP_TRY(const auto case_id, in.hex<16>("case"));
  view.case_id = CaseId{case_id};
  SP_TRY(view.code, read_code(in));
  SP_TRY(view.detail, read_text(in, "detail"));
  SP_TRY(const std::uint64_t expires, in.integer("expires"));
  view.expires = UnixMillis{expires};
  SP_TRY(view.host, read_text(in, "host", kMaxId));
  SP_TRY(view.kind, in.text("kind", 32));
  SP_TRY(view.may, read_text(in, "may", kMaxId));
  SP_TRY(const std::uint64_t opened, in.integer("opened"));
  view.opened = UnixMillis{opened};
  SP_TRY(view.person, read_text(in, "person", kMaxId));
  SP_TRY(const auto* quorum, in.array("quorum", kMaxItems));
  for (const Value& item : *quorum) {
    SP_TRY(Fields c, Fields::of(item, "case.quorum"));
    ClauseView clause;
    SP_TRY(clause.group, c.text("group", kMaxId));
    SP_TRY(clause.have, c.integer("have"));
    SP_TRY(clause.needed, c.integer("needed"));
    SP_TRY(const auto* people, c.array("people", kMaxItems));
    for (const Value& person : *people) {
      if (person.as_string() == nullptr) return c.wrong("people", "not text");
      clause.people.push_back(*person.as_string());
    }
    SP_CHECK(c.finish());
    view.quorum.push_back(std::move(clause));
  }
  SP_TRY(view.reason, read_text(in, "reason"));
  SP_TRY(view.resource, read_text(in, "resource", kMaxId));
  SP_TRY(view.rule, read_text(in, "rule", 2 * kMaxId));
  SP_TRY(view.state, in.text("state", 32));
  SP_TRY(view.to_approve, read_text(in, "to_approve", 64));
  if (entries) {
    SP_TRY(const auto* items, in.array("entries", kMaxCases));
    for (const Value& item : *items) {
      SP_TRY(Fields e, Fields::of(item, "case.entries"));
      EntryView entry;
      SP_TRY(entry.entry.body, e.base64("body", 2u << 20));
      SP_TRY(entry.index, e.integer("index"));
      SP_TRY(const Bytes leaf, e.base64("leaf", 66, 66));
      SP_TRY(entry.entry.leaf, ledger::parse_leaf(leaf));
      SP_TRY(const auto nonce, e.hex<32>("nonce"));
      entry.entry.nonce = Nonce{nonce};
      SP_CHECK(e.finish());
      view.entries.push_back(std::move(entry));
    }
  }
  SP_CHECK(in.finish());
  return view;
}

}  // namespace

Bytes encode(const ErrorMessage& m) {
  return encode_canonical(
      Value::object({{"case", m.case_hex}, {"code", reason_name(m.code)}, {"detail", m.detail}}));
}
Result<ErrorMessage> parse_error_message(ByteView json) {
  return with_fields<ErrorMessage>(json, "error", [](Fields& in, ErrorMessage& m) -> Status {
    SP_TRY(m.case_hex, read_text(in, "case", 32));
    SP_TRY(const auto code, read_code(in));
    if (!code) return in.wrong("code", "an error without a reason");
    m.code = *code;
    SP_TRY(m.detail, read_text(in, "detail"));
    return Done{};
  });
}

Bytes encode(const Hello& m) {
  return encode_canonical(Value::object(
      {{"head", m.head}, {"nonce", to_hex(m.nonce)}, {"origin", m.origin}, {"time", m.time.get()}}));
}
Result<Hello> parse_hello(ByteView json) {
  return with_fields<Hello>(json, "hello", [](Fields& in, Hello& m) -> Status {
    SP_TRY(m.head, read_text(in, "head", kMaxNote));
    SP_TRY(const auto nonce, in.hex<32>("nonce"));
    m.nonce = Nonce{nonce};
    SP_TRY(m.origin, in.text("origin", 255));
    SP_TRY(const std::uint64_t time, in.integer("time"));
    m.time = UnixMillis{time};
    return Done{};
  });
}

Bytes encode(const Attest& m) {
  return encode_canonical(Value::object(
      {{"device", to_hex(m.device)}, {"nonce", to_hex(m.nonce)}, {"quote", to_base64(m.quote)}}));
}
Result<Attest> parse_attest(ByteView json) {
  return with_fields<Attest>(json, "attest", [](Fields& in, Attest& m) -> Status {
    SP_TRY(const Digest256 device, in.digest("device"));
    m.device = DeviceId{device};
    SP_TRY(const auto nonce, in.hex<32>("nonce"));
    m.nonce = Nonce{nonce};
    SP_TRY(m.quote, in.base64("quote", record::max_evidence_bytes(record::EvidenceType::kQuote)));
    return Done{};
  });
}

namespace {
Value submitted_value(const Submitted& m) {
  return Value::object({{"case", to_hex(m.case_id)},
                        {"code", code_text(m.code)},
                        {"detail", m.detail},
                        {"leaf", m.leaf},
                        {"size", m.size},
                        {"state", m.state}});
}
Status read_submitted(Fields& in, Submitted& m) {
  SP_TRY(const auto case_id, in.hex<16>("case"));
  m.case_id = CaseId{case_id};
  SP_TRY(m.code, read_code(in));
  SP_TRY(m.detail, read_text(in, "detail"));
  SP_TRY(m.leaf, in.integer("leaf"));
  SP_TRY(m.size, in.integer("size"));
  SP_TRY(m.state, in.text("state", 32));
  return Done{};
}
}  // namespace

Bytes encode(const Submitted& m) {
  return encode_canonical(submitted_value(m));
}
Result<Submitted> parse_submitted(ByteView json) {
  return with_fields<Submitted>(json, "submitted", read_submitted);
}

Bytes encode(const std::vector<Submitted>& list) {
  Value::Array items;
  for (const Submitted& m : list) items.push_back(submitted_value(m));
  return encode_canonical(Value::object({{"cases", std::move(items)}}));
}
Result<std::vector<Submitted>> parse_submitted_list(ByteView json) {
  return with_fields<std::vector<Submitted>>(
      json, "list", [](Fields& in, std::vector<Submitted>& out) -> Status {
        SP_TRY(const auto* items, in.array("cases", record::kMaxListed));
        for (const Value& item : *items) {
          SP_TRY(Fields fields, Fields::of(item, "submitted"));
          Submitted submitted;
          SP_CHECK(read_submitted(fields, submitted));
          SP_CHECK(fields.finish());
          out.push_back(std::move(submitted));
        }
        return Done{};
      });
}

Bytes encode(const CaseView& view) {
  return encode_canonical(case_value(view, true));
}
Result<CaseView> parse_case_view(ByteView json) {
  SP_TRY(const Value value, parse_canonical(json, kMaxMessageBytes));
  return read_case(value, true);
}

Bytes encode(const std::vector<CaseView>& views) {
  Value::Array cases;
  for (const CaseView& view : views) cases.push_back(case_value(view, false));
  return encode_canonical(Value::object({{"cases", std::move(cases)}}));
}
Result<std::vector<CaseView>> parse_case_list(ByteView json) {
  return with_fields<std::vector<CaseView>>(json, "list",
                                            [](Fields& in, std::vector<CaseView>& out) -> Status {
                                              SP_TRY(const auto* cases, in.array("cases", kMaxCases));
                                              for (const Value& item : *cases) {
                                                SP_TRY(CaseView view, read_case(item, false));
                                                out.push_back(std::move(view));
                                              }
                                              return Done{};
                                            });
}

Bytes encode(const Activated& m) {
  return encode_canonical(
      Value::object({{"certificate", to_base64(m.certificate)}, {"dossier", to_base64(m.dossier)}}));
}
Result<Activated> parse_activated(ByteView json) {
  return with_fields<Activated>(json, "activated", [](Fields& in, Activated& m) -> Status {
    SP_TRY(m.certificate, in.base64("certificate", 64u << 10));
    SP_TRY(m.dossier, in.base64("dossier", record::kMaxFullDossierBytes));
    return Done{};
  });
}

Bytes encode(const LeaseAsk& m) {
  return encode_canonical(Value::object({{"content", to_base64(m.content)},
                                         {"expiration", m.expiration_s},
                                         {"nonce", to_base64(m.nonce_tpm)}}));
}
Result<LeaseAsk> parse_lease_ask(ByteView json) {
  return with_fields<LeaseAsk>(json, "lease", [](Fields& in, LeaseAsk& m) -> Status {
    SP_TRY(m.content, in.base64("content", 64u << 10));
    SP_TRY(m.expiration_s, in.integer("expiration", 30, 1));
    SP_TRY(m.nonce_tpm, in.base64("nonce", 32, 32));
    return Done{};
  });
}

Bytes encode(const Leased& m) {
  return encode_canonical(
      Value::object({{"expiration", m.expiration_s}, {"signature", to_base64(ByteView{m.signature})}}));
}
Result<Leased> parse_leased(ByteView json) {
  return with_fields<Leased>(json, "leased", [](Fields& in, Leased& m) -> Status {
    SP_TRY(m.expiration_s, in.integer("expiration", 30, 1));
    SP_TRY(m.signature, read_fixed<64>(in, "signature"));
    return Done{};
  });
}

namespace {
Value challenge_value(const Challenge& m) {
  return Value::object(
      {{"blob", to_base64(m.blob)}, {"challenge", m.number}, {"secret", to_base64(m.secret)}});
}
Status read_challenge(Fields& in, Challenge& m) {
  SP_TRY(m.blob, in.base64("blob", 512));
  SP_TRY(m.number, in.integer("challenge"));
  SP_TRY(m.secret, in.base64("secret", 512));
  return Done{};
}
}  // namespace

Bytes encode(const Challenge& m) {
  return encode_canonical(challenge_value(m));
}
Result<Challenge> parse_challenge(ByteView json) {
  return with_fields<Challenge>(json, "challenge", read_challenge);
}

Bytes encode(const std::vector<Challenge>& challenges) {
  Value::Array items;
  for (const Challenge& m : challenges) items.push_back(challenge_value(m));
  return encode_canonical(Value::object({{"challenges", std::move(items)}}));
}
Result<std::vector<Challenge>> parse_challenges(ByteView json) {
  return with_fields<std::vector<Challenge>>(json, "list",
                                             [](Fields& in, std::vector<Challenge>& out) -> Status {
                                               SP_TRY(const auto* items, in.array("challenges", kMaxItems));
                                               for (const Value& item : *items) {
                                                 SP_TRY(Fields fields, Fields::of(item, "challenge"));
                                                 Challenge challenge;
                                                 SP_CHECK(read_challenge(fields, challenge));
                                                 SP_CHECK(fields.finish());
                                                 out.push_back(std::move(challenge));
                                               }
                                               return Done{};
                                             });
}

Bytes encode_field(std::string_view name, std::string_view value) {
  return encode_canonical(Value::object({{std::string{name}, value}}));
}
Result<std::string> parse_field(ByteView json, std::string_view name, std::size_t max_bytes) {
  return with_fields<std::string>(json, "answer", [&](Fields& in, std::string& out) -> Status {
    SP_TRY(out, in.text(name, max_bytes, 0));
    return Done{};
  });
}

Bytes encode_notes(const std::vector<std::string>& notes) {
  Value::Array items;
  for (const std::string& note : notes) items.emplace_back(note);
  return encode_canonical(Value::object({{"notes", std::move(items)}}));
}
Result<std::vector<std::string>> parse_notes(ByteView json) {
  return with_fields<std::vector<std::string>>(json, "list",
                                               [](Fields& in, std::vector<std::string>& out) -> Status {
                                                 SP_TRY(const auto* items, in.array("notes", kMaxItems));
                                                 for (const Value& item : *items) {
                                                   if (item.as_string() == nullptr)
                                                     return in.wrong("notes", "not text");
                                                   out.push_back(*item.as_string());
                                                 }
                                                 return Done{};
                                               });
}

Bytes encode_case_ids(const std::vector<CaseId>& cases) {
  Value::Array items;
  for (const CaseId& id : cases) items.emplace_back(to_hex(id));
  return encode_canonical(Value::object({{"cases", std::move(items)}}));
}
Result<std::vector<CaseId>> parse_case_ids(ByteView json) {
  return with_fields<std::vector<CaseId>>(json, "list", [](Fields& in, std::vector<CaseId>& out) -> Status {
    SP_TRY(const auto* items, in.array("cases", record::kMaxNamedCases));
    for (const Value& item : *items) {
      if (item.as_string() == nullptr) return in.wrong("cases", "not text");
      SP_TRY(const CaseId id, parse_case_id(*item.as_string()));
      out.push_back(id);
    }
    return Done{};
  });
}

}  // namespace sallyport::api
