#include "attestation/record/statements.h"

#include <algorithm>
#include <array>
#include <type_traits>

#include "attestation/base/base64.h"
#include "attestation/base/hex.h"
#include "attestation/record/canonical_json.h"

// Each statement is described once, as the row of README.md that it is; Writing and Reading are the two
// directions of a row, so that what one writes the other takes.

namespace sallyport::record {
namespace {

constexpr std::size_t kMaxIdBytes = 128;
constexpr std::size_t kMaxOriginBytes = 200;
constexpr std::size_t kMaxReasonBytes = 1024;
constexpr std::size_t kMaxCommandBytes = 1024;
constexpr std::size_t kMaxAddressBytes = 64;
constexpr std::size_t kMaxPublicAreaBytes = 1024;
constexpr std::size_t kMaxDecisionBytes = 16 * 1024;
constexpr std::size_t kMaxApprovals = 64;
constexpr std::size_t kMaxClauses = 16;
constexpr std::size_t kMaxRegions = 64;
constexpr std::size_t kMaxAttachments = 8;
constexpr std::uint64_t kMaxAttachmentBytes = 16u << 20;
constexpr std::uint64_t kMaxDurationS = 24 * 60 * 60;
constexpr std::uint64_t kMaxLeaseS = 30;

constexpr std::size_t kMaxStatementBytes = kMaxPayloadBytes;
constexpr std::size_t kMaxClosingStatementBytes = 380 * 1024;  // as base64 it fits kMaxClosingEnvelopeBytes

using json::Fields;
using json::Member;
using json::Value;

// Text is shown to people before they sign it: no control characters (U+0000–001F, 007F–009F), no line or
// paragraph separators and no bidirectional embeddings, overrides or isolates (U+2028–202E, 2066–2069), with
// which it could be shown as another text.
bool is_plain_text(std::string_view text) {
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto byte = [&](std::size_t at) {
      return at < text.size() ? static_cast<std::uint8_t>(text[at]) : 0u;
    };
    if (byte(i) < 0x20 || byte(i) == 0x7F) return false;
    if (byte(i) == 0xC2 && byte(i + 1) < 0xA0) return false;
    if (byte(i) == 0xE2 && byte(i + 1) == 0x80 && byte(i + 2) >= 0xA8 && byte(i + 2) <= 0xAE) return false;
    if (byte(i) == 0xE2 && byte(i + 1) == 0x81 && byte(i + 2) >= 0xA6 && byte(i + 2) <= 0xA9) return false;
  }
  return true;
}

struct Size {
  std::size_t max = kMaxIdBytes;
  std::size_t min = 1;
};
constexpr Size kId{};
constexpr Size kIdOrNone{kMaxIdBytes, 0};
constexpr Size kReason{kMaxReasonBytes, 1};

struct Range {
  std::uint64_t max = json::kMaxInteger;
  std::uint64_t min = 0;
};

template <class E>
using Names = std::initializer_list<std::pair<E, std::string_view>>;

// Writing turns a statement into the members of its object.
class Writing {
 public:
  Status text(std::string_view name, const std::string& value, Size = kId) { return put(name, value); }
  Status integer(std::string_view name, std::uint64_t value, Range = {}) { return put(name, value); }
  Status boolean(std::string_view name, bool value) { return put(name, Value{value}); }
  template <class T>
  Status hex(std::string_view name, const T& value) {
    return put(name, to_hex(value));
  }
  template <std::size_t N>
  Status hex(std::string_view name, const ByteArray<N>& value) {
    return put(name, to_hex(ByteView{value}));
  }
  Status hex_or_none(std::string_view name, const std::optional<DeviceId>& value) {
    return put(name, value.has_value() ? to_hex(*value) : std::string{});
  }
  Status time(std::string_view name, UnixMillis value) { return put(name, value.get()); }
  Status base64(std::string_view name, const Bytes& value, Size) { return put(name, to_base64(value)); }
  template <class E>
  Status one_of(std::string_view name, E value, Names<E> names) {
    for (const auto& [enumerator, spelled] : names)
      if (enumerator == value) return put(name, std::string{spelled});
    return Error{Code::kInternal, "enumerator without a name"};
  }
  Status code(std::string_view name, Reason value) { return put(name, std::string{reason_name(value)}); }
  Status base64_list(std::string_view name, const std::vector<Bytes>& list, Size, Size) {
    return items(name, list, [](const Bytes& item) { return Value{to_base64(item)}; });
  }
  Status digest_list(std::string_view name, const std::vector<Digest256>& list, Size) {
    return items(name, list, [](const Digest256& item) { return Value{to_hex(item)}; });
  }
  Status case_list(std::string_view name, const std::vector<CaseId>& list, Size) {
    return items(name, list, [](const CaseId& item) { return Value{to_hex(item)}; });
  }
  Status text_list(std::string_view name, const std::vector<std::string>& list, Size) {
    return items(name, list, [](const std::string& item) { return Value{item}; });
  }
  // A nested object, and a list of objects, each described by a function of (Writing or Reading, T).
  template <class T, class Describe>
  Status object(std::string_view name, T& value, Describe describe) {
    Writing inner;
    SP_CHECK(describe(inner, value));
    return put(name, std::move(inner).take());
  }
  template <class T, class Describe>
  Status objects(std::string_view name, std::vector<T>& list, Size, Describe describe) {
    Value::Array out;
    for (T& item : list) {
      Writing inner;
      SP_CHECK(describe(inner, item));
      out.push_back(std::move(inner).take());
    }
    return put(name, Value{std::move(out)});
  }
  Error wrong(std::string_view name, std::string_view what) const {
    return Error{Code::kInternal, std::string{name} + ": " + std::string{what}};
  }

  Value take() && { return Value::object(std::move(members_)); }

 private:
  Status put(std::string_view name, Value value) {
    members_.push_back({std::string{name}, std::move(value)});
    return Done{};
  }
  template <class T, class Make>
  Status items(std::string_view name, const std::vector<T>& list, Make make) {
    Value::Array out;
    for (const T& item : list) out.push_back(make(item));
    return put(name, Value{std::move(out)});
  }
  std::vector<Member> members_;
};

// Reading fills a statement from its object and judges each field.
class Reading {
 public:
  explicit Reading(Fields in) : in_(std::move(in)) {}

  Status text(std::string_view name, std::string& value, Size size = kId) {
    SP_TRY(value, in_.text(name, size.max, size.min));
    if (!is_plain_text(value)) return in_.wrong(name, "control characters");
    return Done{};
  }
  Status integer(std::string_view name, std::uint64_t& value, Range range = {}) {
    SP_TRY(value, in_.integer(name, range.max, range.min));
    return Done{};
  }
  Status boolean(std::string_view name, bool& value) {
    SP_TRY(value, in_.boolean(name));
    return Done{};
  }
  Status hex(std::string_view name, Digest256& value) {
    SP_TRY(value, in_.digest(name));
    return Done{};
  }
  Status hex(std::string_view name, DeviceId& value) {
    SP_TRY(const Digest256 digest, in_.digest(name));
    value = DeviceId{digest};
    return Done{};
  }
  Status hex(std::string_view name, CaseId& value) {
    SP_TRY(const auto bytes, in_.hex<16>(name));
    value = CaseId{bytes};
    return Done{};
  }
  Status hex(std::string_view name, Nonce& value) {
    SP_TRY(const auto bytes, in_.hex<32>(name));
    value = Nonce{bytes};
    return Done{};
  }
  Status hex(std::string_view name, ByteArray<34>& value) {
    SP_TRY(value, in_.hex<34>(name));
    return Done{};
  }
  Status hex_or_none(std::string_view name, std::optional<DeviceId>& value) {
    SP_TRY(const std::string digits, in_.text(name, 64, 0));
    value.reset();
    if (digits.empty()) return Done{};
    auto parsed = parse_device_id(digits);
    if (!parsed.has_value()) return in_.wrong(name, "not lower-case hexadecimal of 32 bytes");
    value = *parsed;
    return Done{};
  }
  Status time(std::string_view name, UnixMillis& value) {
    SP_TRY(const std::uint64_t number, in_.integer(name));
    value = UnixMillis{number};
    return Done{};
  }
  Status base64(std::string_view name, Bytes& value, Size size) {
    SP_TRY(value, in_.base64(name, size.max, size.min));
    return Done{};
  }
  template <class E>
  Status one_of(std::string_view name, E& value, Names<E> names) {
    SP_TRY(const std::string found, in_.text(name, kMaxIdBytes));
    for (const auto& [enumerator, spelled] : names) {
      if (found != spelled) continue;
      value = enumerator;
      return Done{};
    }
    return in_.wrong(name, "not one of its values");
  }
  Status code(std::string_view name, Reason& value) {
    SP_TRY(const std::string spelled, in_.text(name, kMaxIdBytes));
    const auto found = find_reason(spelled);
    if (!found.has_value()) return in_.wrong(name, "not a reason that is known");
    value = *found;
    return Done{};
  }
  Status base64_list(std::string_view name, std::vector<Bytes>& list, Size count, Size size) {
    SP_TRY(const Value::Array* found, in_.array(name, count.max, count.min));
    list.clear();
    for (const Value& item : *found) {
      const std::string* spelled = item.as_string();
      if (spelled == nullptr) return in_.wrong(name, "not base64");
      auto bytes = parse_base64(*spelled, size.max);
      if (!bytes.has_value() || bytes->size() < size.min)
        return in_.wrong(name, "not canonical base64, or of a wrong size");
      list.push_back(std::move(bytes).value());
    }
    return Done{};
  }
  Status digest_list(std::string_view name, std::vector<Digest256>& list, Size count) {
    SP_TRY(const Value::Array* found, in_.array(name, count.max, count.min));
    list.clear();
    for (const Value& item : *found) {
      const std::string* spelled = item.as_string();
      if (spelled == nullptr) return in_.wrong(name, "not hexadecimal");
      auto digest = parse_digest(*spelled);
      if (!digest.has_value()) return in_.wrong(name, "not lower-case hexadecimal of 32 bytes");
      if (std::find(list.begin(), list.end(), *digest) != list.end())
        return in_.wrong(name, "a digest occurs twice");
      list.push_back(*digest);
    }
    return Done{};
  }
  Status case_list(std::string_view name, std::vector<CaseId>& list, Size count) {
    SP_TRY(const Value::Array* found, in_.array(name, count.max, count.min));
    list.clear();
    for (const Value& item : *found) {
      const std::string* spelled = item.as_string();
      if (spelled == nullptr) return in_.wrong(name, "not hexadecimal");
      const auto id = parse_case_id(*spelled);
      if (!id.has_value()) return in_.wrong(name, "not lower-case hexadecimal of 16 bytes");
      list.push_back(*id);
    }
    return Done{};
  }
  Status text_list(std::string_view name, std::vector<std::string>& list, Size count) {
    SP_TRY(const Value::Array* found, in_.array(name, count.max, count.min));
    list.clear();
    for (const Value& item : *found) {
      const std::string* text = item.as_string();
      if (text == nullptr || text->empty() || text->size() > kMaxIdBytes || !is_plain_text(*text))
        return in_.wrong(name, "not an id");
      list.push_back(*text);
    }
    return Done{};
  }
  template <class T, class Describe>
  Status object(std::string_view name, T& value, Describe describe) {
    SP_TRY(Fields inner, in_.object(name));
    Reading reading{std::move(inner)};
    SP_CHECK(describe(reading, value));
    return reading.in_.finish();
  }
  template <class T, class Describe>
  Status objects(std::string_view name, std::vector<T>& list, Size count, Describe describe) {
    SP_TRY(const Value::Array* found, in_.array(name, count.max, count.min));
    list.clear();
    for (const Value& item : *found) {
      SP_TRY(Fields inner, Fields::of(item, std::string{name} + "[]"));
      Reading reading{std::move(inner)};
      T value;
      SP_CHECK(describe(reading, value));
      SP_CHECK(reading.in_.finish());
      list.push_back(std::move(value));
    }
    return Done{};
  }
  Error wrong(std::string_view name, std::string_view what) const { return in_.wrong(name, what); }
  Status finish() const { return in_.finish(); }

 private:
  Fields in_;
};

// The rows of README.md, "Statements". A rule between two fields stands after them; Writing does not apply
// it.
template <class Io>
constexpr bool kReads = std::is_same_v<Io, Reading>;

template <class Io>
Status origin(Io& io, std::string& authority) {
  return io.text("authority", authority, {kMaxOriginBytes, 1});
}
template <class Io>
Status key_name(Io& io, ByteArray<34>& key) {
  SP_CHECK(io.hex("key", key));
  if (kReads<Io> && (key[0] != 0x00 || key[1] != 0x0B)) return io.wrong("key", "not a SHA-256 Name");
  return Done{};
}
template <class Io>
Status channel_number(Io& io, std::uint64_t& channel) {
  return io.integer("channel", channel, {json::kMaxInteger, 1});
}

template <class Io>
Status describe_attachment(Io& io, Attachment& s) {
  SP_CHECK(io.text("name", s.name));
  SP_CHECK(io.hex("sha256", s.sha256));
  return io.integer("size", s.size, {kMaxAttachmentBytes, 0});
}
template <class Io>
Status describe_clause(Io& io, QuorumClause& s) {
  SP_CHECK(io.integer("approvals", s.approvals, {kMaxApprovals, 1}));
  return io.text("group", s.group);
}
template <class Io>
Status describe_approver(Io& io, DecisionStatement& s) {
  SP_CHECK(io.boolean("attested", s.approver_attested));
  SP_CHECK(io.boolean("other_team", s.approver_other_team));
  return io.text_list("region", s.approver_region, Size{kMaxRegions, 0});
}

template <class Io>
Status describe(Io& io, Request& s) {
  SP_CHECK(io.text("account", s.account, kIdOrNone));
  SP_CHECK(io.text("action", s.action));
  if (kReads<Io> && s.action != "ssh") return io.wrong("action", "not one of its values");
  SP_CHECK(io.objects("attachments", s.attachments, Size{kMaxAttachments, 0}, describe_attachment<Io>));
  SP_CHECK(origin(io, s.authority));
  SP_CHECK(io.text("beneficiary", s.beneficiary));
  SP_CHECK(io.hex("case", s.case_id));
  SP_CHECK(io.hex("device", s.device));
  SP_CHECK(io.integer("duration", s.duration_s, {kMaxDurationS, 0}));
  SP_CHECK(io.hex("head_root", s.head_root));
  SP_CHECK(io.integer("head_size", s.head_size));
  SP_CHECK(io.text("host", s.host));
  SP_CHECK(key_name(io, s.key));
  SP_CHECK(io.hex("nonce", s.nonce));
  SP_CHECK(io.text("person", s.person));
  SP_CHECK(io.text("reason", s.reason, kReason));
  SP_CHECK(io.text("resource", s.resource));
  return io.time("time", s.time);
}

template <class Io>
Status describe(Io& io, DecisionStatement& s) {
  SP_CHECK(io.text("account", s.account));
  SP_CHECK(io.object("approver", s, describe_approver<Io>));
  SP_CHECK(origin(io, s.authority));
  SP_CHECK(io.text("beneficiary", s.beneficiary));
  SP_CHECK(io.hex("case", s.case_id));
  SP_CHECK(io.text("command", s.command, {kMaxCommandBytes, 0}));
  SP_CHECK(io.hex("device", s.device));
  SP_CHECK(io.integer("duration", s.duration_s, {kMaxDurationS, 1}));
  SP_CHECK(io.hex("evidence", s.evidence));
  SP_CHECK(io.text("host", s.host));
  SP_CHECK(key_name(io, s.key));
  SP_CHECK(io.text("network", s.network));
  SP_CHECK(io.text("person", s.person));
  SP_CHECK(io.hex("policy", s.policy));
  SP_CHECK(io.objects("quorum", s.quorum, Size{kMaxClauses, 1}, describe_clause<Io>));
  SP_CHECK(io.hex("request", s.request));
  SP_CHECK(io.text("resource", s.resource));
  return io.text_list("rules", s.rules, Size{2, 1});
}

template <class Io>
Status describe(Io& io, Refusal& s) {
  SP_CHECK(origin(io, s.authority));
  SP_CHECK(io.hex("case", s.case_id));
  SP_CHECK(io.code("code", s.code));
  return io.hex("request", s.request);
}

template <class Io>
Status describe(Io& io, Approval& s) {
  SP_CHECK(io.text("approver", s.approver));
  SP_CHECK(origin(io, s.authority));
  SP_CHECK(io.hex("case", s.case_id));
  SP_CHECK(io.hex("decision", s.decision));
  SP_CHECK(io.hex_or_none("device", s.device));
  SP_CHECK(io.time("expires", s.expires));
  SP_CHECK(io.hex("nonce", s.nonce));
  return io.time("time", s.time);
}

template <class Io>
Status describe_listed(Io& io, ListedCase& s) {
  SP_CHECK(io.hex("case", s.case_id));
  return io.hex("decision", s.decision);
}
template <class Io>
Status describe(Io& io, ListApproval& s) {
  SP_CHECK(io.text("approver", s.approver));
  SP_CHECK(origin(io, s.authority));
  SP_CHECK(io.objects("entries", s.entries, Size{kMaxListed, kMinListed}, describe_listed<Io>));
  const auto not_before = [](const ListedCase& a, const ListedCase& b) { return a.case_id >= b.case_id; };
  if (kReads<Io> && std::adjacent_find(s.entries.begin(), s.entries.end(), not_before) != s.entries.end())
    return io.wrong("entries", "not in ascending order of their cases, each once");
  SP_CHECK(io.time("expires", s.expires));
  SP_CHECK(io.hex("nonce", s.nonce));
  return io.time("time", s.time);
}

template <class Io>
Status describe(Io& io, Denial& s) {
  SP_CHECK(io.text("approver", s.approver));
  SP_CHECK(origin(io, s.authority));
  SP_CHECK(io.hex("case", s.case_id));
  SP_CHECK(io.text("reason", s.reason, kReason));
  return io.time("time", s.time);
}

template <class Io>
Status describe(Io& io, Grant& s) {
  SP_CHECK(io.digest_list("approvals", s.approvals, Size{kMaxApprovals, 1}));
  SP_CHECK(origin(io, s.authority));
  SP_CHECK(io.hex("case", s.case_id));
  return io.base64("decision", s.decision, {kMaxDecisionBytes, 1});
}

template <class Io>
Status describe(Io& io, Lease& s) {
  SP_CHECK(io.text("account", s.account));
  SP_CHECK(origin(io, s.authority));
  SP_CHECK(io.hex("case", s.case_id));
  SP_CHECK(io.hex("content", s.content));
  SP_CHECK(io.hex("cp_hash", s.cp_hash));
  SP_CHECK(io.integer("expiration", s.expiration_s, {kMaxLeaseS, 1}));
  SP_CHECK(io.text("host", s.host));
  SP_CHECK(io.hex("nonce", s.nonce));
  return io.time("time", s.time);
}

template <class Io>
Status describe(Io& io, SessionOpened& s) {
  SP_CHECK(io.text("account", s.account));
  SP_CHECK(io.text("address", s.address, {kMaxAddressBytes, 1}));
  SP_CHECK(origin(io, s.authority));
  SP_CHECK(io.hex("case", s.case_id));
  SP_CHECK(channel_number(io, s.channel));
  SP_CHECK(io.text("host", s.host));
  return io.time("time", s.time);
}

template <class Io>
Status describe(Io& io, SessionClosed& s) {
  SP_CHECK(origin(io, s.authority));
  SP_CHECK(io.integer("bytes", s.bytes));
  SP_CHECK(io.hex("case", s.case_id));
  SP_CHECK(channel_number(io, s.channel));
  SP_CHECK(io.text("host", s.host));
  SP_CHECK(io.time("time", s.time));
  return io.template one_of<WhyClosed>("why", s.why,
                                       {{WhyClosed::kExit, "exit"},
                                        {WhyClosed::kDeadline, "deadline"},
                                        {WhyClosed::kRevoked, "revoked"},
                                        {WhyClosed::kBehind, "behind"},
                                        {WhyClosed::kLost, "lost"}});
}

template <class Io>
Status describe(Io& io, EnrolmentRequested& s) {
  SP_CHECK(io.base64("ak", s.ak, {kMaxPublicAreaBytes, 1}));
  SP_CHECK(origin(io, s.authority));
  SP_CHECK(io.hex("case", s.case_id));
  SP_CHECK(io.hex("device", s.device));
  SP_CHECK(io.base64("ek", s.ek, {kMaxPublicAreaBytes, 1}));
  SP_CHECK(io.text("name", s.name));
  SP_CHECK(io.hex("nonce", s.nonce));
  SP_CHECK(io.hex("pcrs", s.pcrs));
  SP_CHECK(io.text("person", s.person));
  SP_CHECK(io.text("region", s.region));
  return io.time("time", s.time);
}

template <class Io>
Status describe(Io& io, Enrolment& s) {
  SP_CHECK(io.base64_list("approvals", s.approvals, Size{kMaxApprovals, 1}, Size{kMaxEnvelopeBytes, 1}));
  SP_CHECK(origin(io, s.authority));
  SP_CHECK(io.hex("case", s.case_id));
  return io.base64("request", s.request, {kMaxEnvelopeBytes, 1});
}

template <class Io>
Status describe(Io& io, PolicyProposed& s) {
  SP_CHECK(origin(io, s.authority));
  SP_CHECK(io.hex("case", s.case_id));
  SP_CHECK(io.hex("digest", s.digest));
  SP_CHECK(io.text("person", s.person));
  SP_CHECK(io.hex("previous", s.previous));
  SP_CHECK(io.time("time", s.time));
  return io.integer("version", s.version, {json::kMaxInteger, 2});
}

template <class Io>
Status describe(Io& io, PolicyInForce& s) {
  SP_CHECK(io.base64_list("approvals", s.approvals, Size{kMaxApprovals, 0}, Size{kMaxEnvelopeBytes, 1}));
  SP_CHECK(origin(io, s.authority));
  SP_CHECK(io.hex("case", s.case_id));
  SP_CHECK(io.hex("digest", s.digest));
  SP_CHECK(io.base64("proposal", s.proposal, {kMaxEnvelopeBytes, 0}));
  SP_CHECK(io.integer("version", s.version, {json::kMaxInteger, 1}));
  if (kReads<Io> && (s.version == 1) != s.proposal.empty())
    return io.wrong("proposal", "version 1 has none, others have one");
  if (kReads<Io> && (s.version == 1) != s.approvals.empty())
    return io.wrong("approvals", "version 1 has none, others have some");
  return Done{};
}

template <class Io>
Status describe(Io& io, Revocation& s) {
  SP_CHECK(origin(io, s.authority));
  SP_CHECK(io.hex("case", s.case_id));
  SP_CHECK(io.template one_of<RevocationKind>("kind", s.kind,
                                              {{RevocationKind::kCase, "case"},
                                               {RevocationKind::kDevice, "device"},
                                               {RevocationKind::kLost, "lost"},
                                               {RevocationKind::kPerson, "person"},
                                               {RevocationKind::kRetired, "retired"},
                                               {RevocationKind::kToken, "token"}}));
  SP_CHECK(io.text("person", s.person));
  SP_CHECK(io.text("reason", s.reason, kReason));
  SP_CHECK(io.text("target", s.target));
  if constexpr (kReads<Io>) {
    const bool spelled = s.kind == RevocationKind::kPerson ||
                         (s.kind == RevocationKind::kCase ? parse_case_id(s.target).has_value()
                                                          : parse_digest(s.target).has_value());
    if (!spelled) return io.wrong("target", "not lower-case hexadecimal of the size of its kind");
  }
  return io.time("time", s.time);
}

template <class Io>
Status describe(Io& io, Snapshot& s) {
  SP_CHECK(origin(io, s.authority));
  SP_CHECK(io.hex("case", s.case_id));
  SP_CHECK(io.integer("size", s.size, {json::kMaxInteger, 1}));
  return io.hex("state", s.state);
}

// Ids of cases ascend, each once.
template <class Io, class Ids>
Status cases(Io& io, Ids& ids, std::size_t least) {
  SP_CHECK(io.case_list("cases", ids, {kMaxNamedCases, least}));
  if (kReads<Io> && std::adjacent_find(ids.begin(), ids.end(), std::greater_equal<>{}) != ids.end())
    return io.wrong("cases", "not in ascending order, each once");
  return Done{};
}

template <class Io>
Status describe(Io& io, ErasureProposed& s) {
  SP_CHECK(origin(io, s.authority));
  SP_CHECK(io.time("before", s.before));
  SP_CHECK(io.hex("case", s.case_id));
  SP_CHECK(cases(io, s.cases, 1));
  SP_CHECK(io.text("person", s.person));
  SP_CHECK(io.text("reason", s.reason, kReason));
  return io.time("time", s.time);
}

template <class Io>
Status describe(Io& io, Erasure& s) {
  SP_CHECK(io.base64_list("approvals", s.approvals, Size{kMaxApprovals, 1}, Size{kMaxEnvelopeBytes, 1}));
  SP_CHECK(origin(io, s.authority));
  SP_CHECK(io.hex("case", s.case_id));
  return io.base64("proposal", s.proposal, {kMaxEnvelopeBytes, 1});
}

template <class Io>
Status describe(Io& io, Hold& s) {
  SP_CHECK(origin(io, s.authority));
  SP_CHECK(io.hex("case", s.case_id));
  SP_CHECK(cases(io, s.cases, 0));
  SP_CHECK(io.text("person", s.person));
  SP_CHECK(io.text("reason", s.reason, kReason));
  return io.time("time", s.time);
}

template <class Io>
Status describe(Io& io, HoldLifted& s) {
  SP_CHECK(origin(io, s.authority));
  SP_CHECK(io.hex("case", s.case_id));
  SP_CHECK(io.hex("hold", s.hold));
  SP_CHECK(io.text("person", s.person));
  SP_CHECK(io.text("reason", s.reason, kReason));
  return io.time("time", s.time);
}

template <class Io>
Status describe(Io& io, Ticket& s) {
  SP_CHECK(origin(io, s.authority));
  SP_CHECK(io.hex("exporter", s.exporter));
  SP_CHECK(io.hex("nonce", s.nonce));
  SP_CHECK(io.text("person", s.person));
  return io.time("time", s.time);
}

template <class Io>
Status describe(Io& io, HostHello& s) {
  SP_CHECK(origin(io, s.authority));
  SP_CHECK(io.hex("exporter", s.exporter));
  SP_CHECK(io.text("host", s.host));
  SP_CHECK(io.hex("nonce", s.nonce));
  return io.time("time", s.time);
}

template <class T>
Bytes write(T statement) {
  Writing out;
  const Status written = describe(out, statement);
  SP_ASSERT(written.has_value());
  return json::encode_canonical(std::move(out).take());
}

template <class T>
Result<T> read(ByteView payload, std::string where, std::size_t max_bytes = kMaxStatementBytes) {
  SP_TRY(const Value value, json::parse_canonical(payload, max_bytes));
  SP_TRY(Fields fields, Fields::of(value, std::move(where)));
  Reading in{std::move(fields)};
  T out;
  SP_CHECK(describe(in, out));
  SP_CHECK(in.finish());
  return out;
}

struct KindRow {
  Kind kind;
  std::string_view name;
  bool control, is_unsigned;
};
constexpr std::array kKinds = {
    KindRow{Kind::kPolicy, "policy", true, true},
    KindRow{Kind::kPolicyProposed, "policy-proposed", false, false},
    KindRow{Kind::kEnrolment, "enrolment", true, true},
    KindRow{Kind::kEnrolmentRequested, "enrolment-requested", false, false},
    KindRow{Kind::kRevocation, "revocation", true, false},
    KindRow{Kind::kRequest, "request", false, false},
    KindRow{Kind::kRefusal, "refusal", false, true},
    KindRow{Kind::kApproval, "approval", false, false},
    KindRow{Kind::kDenial, "denial", true, false},
    KindRow{Kind::kGrant, "grant", true, true},
    KindRow{Kind::kLease, "lease", false, false},
    KindRow{Kind::kSessionOpened, "session-opened", false, false},
    KindRow{Kind::kSessionClosed, "session-closed", false, false},
    KindRow{Kind::kSnapshot, "snapshot", true, true},
    KindRow{Kind::kErasure, "erasure", true, true},
    KindRow{Kind::kErasureProposed, "erasure-proposed", false, false},
    KindRow{Kind::kHold, "hold", true, false},
    KindRow{Kind::kHoldLifted, "hold-lifted", true, false},
    KindRow{Kind::kListApproval, "list-approval", false, false},
};

const KindRow& row(Kind kind) {
  const auto found =
      std::find_if(kKinds.begin(), kKinds.end(), [kind](const KindRow& r) { return r.kind == kind; });
  SP_ASSERT(found != kKinds.end());
  return *found;
}

}  // namespace

Result<Kind> parse_kind(std::uint8_t byte) {
  for (const KindRow& r : kKinds)
    if (static_cast<std::uint8_t>(r.kind) == byte) return r.kind;
  return Error{Code::kMalformed, "leaf of a kind that is not known"};
}
bool is_control(Kind kind) {
  return row(kind).control;
}
bool is_unsigned(Kind kind) {
  return row(kind).is_unsigned;
}
bool is_erasable(Kind kind) {
  switch (kind) {
    case Kind::kRequest:
    case Kind::kRefusal:
    case Kind::kApproval:
    case Kind::kDenial:
    case Kind::kGrant:
    case Kind::kLease:
    case Kind::kSessionOpened:
    case Kind::kSessionClosed:
      return true;
    default:
      return false;
  }
}
std::string_view kind_name(Kind kind) {
  return row(kind).name;
}
std::string payload_type(Kind kind) {
  return "application/vnd.sallyport." + std::string{kind_name(kind)} + ".v1+json";
}
Result<Kind> kind_of_payload_type(std::string_view type) {
  for (const KindRow& r : kKinds)
    if (payload_type(r.kind) == type) return r.kind;
  return Error{Code::kMalformed, "payload type of no kind of leaf"};
}

Bytes encode(const Request& s) {
  return write(s);
}
Bytes encode(const DecisionStatement& s) {
  return write(s);
}
Bytes encode(const Refusal& s) {
  return write(s);
}
Bytes encode(const Approval& s) {
  return write(s);
}
Bytes encode(const ListApproval& s) {
  return write(s);
}
Bytes encode(const Denial& s) {
  return write(s);
}
Bytes encode(const Grant& s) {
  return write(s);
}
Bytes encode(const Lease& s) {
  return write(s);
}
Bytes encode(const SessionOpened& s) {
  return write(s);
}
Bytes encode(const SessionClosed& s) {
  return write(s);
}
Bytes encode(const EnrolmentRequested& s) {
  return write(s);
}
Bytes encode(const Enrolment& s) {
  return write(s);
}
Bytes encode(const PolicyProposed& s) {
  return write(s);
}
Bytes encode(const PolicyInForce& s) {
  return write(s);
}
Bytes encode(const Revocation& s) {
  return write(s);
}
Bytes encode(const Snapshot& s) {
  return write(s);
}
Bytes encode(const ErasureProposed& s) {
  return write(s);
}
Bytes encode(const Erasure& s) {
  return write(s);
}
Bytes encode(const Hold& s) {
  return write(s);
}
Bytes encode(const HoldLifted& s) {
  return write(s);
}
Bytes encode(const Ticket& s) {
  return write(s);
}
Bytes encode(const HostHello& s) {
  return write(s);
}

Result<Request> parse_request(ByteView p) {
  return read<Request>(p, "request");
}
Result<DecisionStatement> parse_decision(ByteView p) {
  return read<DecisionStatement>(p, "decision", kMaxDecisionBytes);
}
Result<Refusal> parse_refusal(ByteView p) {
  return read<Refusal>(p, "refusal");
}
Result<Approval> parse_approval(ByteView p) {
  return read<Approval>(p, "approval");
}
Result<ListApproval> parse_list_approval(ByteView p) {
  return read<ListApproval>(p, "list-approval");
}
Result<Denial> parse_denial(ByteView p) {
  return read<Denial>(p, "denial");
}
Result<Grant> parse_grant(ByteView p) {
  return read<Grant>(p, "grant");
}
Result<Lease> parse_lease(ByteView p) {
  return read<Lease>(p, "lease");
}
Result<SessionOpened> parse_session_opened(ByteView p) {
  return read<SessionOpened>(p, "session-opened");
}
Result<SessionClosed> parse_session_closed(ByteView p) {
  return read<SessionClosed>(p, "session-closed");
}
Result<EnrolmentRequested> parse_enrolment_requested(ByteView p) {
  return read<EnrolmentRequested>(p, "enrolment-requested");
}
Result<Enrolment> parse_enrolment(ByteView p) {
  return read<Enrolment>(p, "enrolment", kMaxClosingStatementBytes);
}
Result<PolicyProposed> parse_policy_proposed(ByteView p) {
  return read<PolicyProposed>(p, "policy-proposed");
}
Result<PolicyInForce> parse_policy_in_force(ByteView p) {
  return read<PolicyInForce>(p, "policy", kMaxClosingStatementBytes);
}
Result<Revocation> parse_revocation(ByteView p) {
  return read<Revocation>(p, "revocation");
}
Result<Snapshot> parse_snapshot(ByteView p) {
  return read<Snapshot>(p, "snapshot");
}
Result<ErasureProposed> parse_erasure_proposed(ByteView p) {
  return read<ErasureProposed>(p, "erasure-proposed");
}
Result<Erasure> parse_erasure(ByteView p) {
  return read<Erasure>(p, "erasure", kMaxClosingStatementBytes);
}
Result<Hold> parse_hold(ByteView p) {
  return read<Hold>(p, "hold");
}
Result<HoldLifted> parse_hold_lifted(ByteView p) {
  return read<HoldLifted>(p, "hold-lifted");
}
Result<Ticket> parse_ticket(ByteView p) {
  return read<Ticket>(p, "ticket");
}
Result<HostHello> parse_host_hello(ByteView p) {
  return read<HostHello>(p, "host-hello");
}

Result<Approval> claimed_approval(const Envelope& envelope, const CaseId& case_id) {
  SP_TRY(const Kind kind, kind_of_payload_type(envelope.type));
  if (kind == Kind::kApproval) return parse_approval(envelope.payload);
  if (kind != Kind::kListApproval) return Error{Code::kMalformed, "not an approval"};
  SP_TRY(ListApproval list, parse_list_approval(envelope.payload));
  const auto part = std::find_if(list.entries.begin(), list.entries.end(),
                                 [&](const ListedCase& one) { return one.case_id == case_id; });
  if (part == list.entries.end())
    return Error{Code::kDenied, Reason::kApprovalOtherDecision, "the list does not have this case"};
  return Approval{.approver = std::move(list.approver),
                  .authority = std::move(list.authority),
                  .case_id = case_id,
                  .decision = part->decision,
                  .device = {},
                  .expires = list.expires,
                  .nonce = list.nonce,
                  .time = list.time};
}

Digest256 decision_digest(ByteView decision_payload) {
  return statement_digest(kDecisionType, decision_payload);
}

}  // namespace sallyport::record
