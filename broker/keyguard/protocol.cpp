#include "broker/keyguard/protocol.h"

#include "attestation/base/reader.h"
#include "attestation/base/writer.h"

namespace sallyport::keyguard {
namespace {

constexpr std::size_t kMaxTextBytes = 16u << 10;

Result<CaseId> read_case(Reader& in) {
  SP_TRY(const auto bytes, in.array<16>());
  return CaseId{bytes};
}

}  // namespace

Bytes encode_frame(Call call, ByteView payload) {
  return std::move(Writer{}.u8(static_cast<std::uint8_t>(call)).raw(payload)).take();
}

Result<Frame> parse_frame(ByteView bytes) {
  Reader in{bytes};
  SP_TRY(const std::uint8_t call, in.u8());
  if (call > static_cast<std::uint8_t>(Call::kLease))
    return Error{Code::kMalformed, "a frame of no known type"};
  return Frame{static_cast<Call>(call), to_bytes(in.rest())};
}

Bytes encode_error(const Error& error) {
  return std::move(Writer{}
                       .u8(static_cast<std::uint8_t>(error.code))
                       .prefixed32(reason_name(error.reason))
                       .prefixed32(std::string_view{error.what}.substr(0, kMaxTextBytes)))
      .take();
}

Error parse_error(ByteView payload) {
  Reader in{payload};
  const auto code = in.u8();
  const auto name = in.prefixed32(64);
  const auto what = in.prefixed32(kMaxTextBytes);
  const auto reason = name.has_value() ? find_reason(as_text(*name)) : std::nullopt;
  if (!what.has_value() || !in.finish().has_value() || !reason ||
      *code > static_cast<std::uint8_t>(Code::kInternal))
    return Error{Code::kMalformed, "the keyguard answered with no known error"};
  return Error{static_cast<Code>(*code), *reason, std::string{as_text(*what)}};
}

Bytes encode(const StatusAnswer& answer) {
  return std::move(Writer{}
                       .u64(answer.size.get())
                       .raw(view(answer.root))
                       .u8(answer.ready ? 1 : 0)
                       .prefixed32(answer.origin)
                       .prefixed32(answer.note))
      .take();
}

Result<StatusAnswer> parse_status_answer(ByteView payload) {
  Reader in{payload};
  StatusAnswer answer;
  SP_TRY(const std::uint64_t size, in.u64());
  answer.size = TreeSize{size};
  SP_TRY(const auto root, in.array<32>());
  answer.root = Digest256{root};
  SP_TRY(const std::uint8_t ready, in.u8());
  if (ready > 1) return Error{Code::kMalformed, "neither ready nor not"};
  answer.ready = ready == 1;
  SP_TRY(const ByteView origin, in.prefixed32(255));
  SP_TRY(const ByteView note, in.prefixed32(kMaxTextBytes));
  SP_CHECK(in.finish());
  answer.origin = as_text(origin);
  answer.note = as_text(note);
  return answer;
}

Bytes encode(const LeaseStatementCall& call) {
  return std::move(Writer{}
                       .raw(view(call.case_id))
                       .prefixed32(call.content)
                       .raw(ByteView{call.nonce_tpm})
                       .u32(call.expiration_s))
      .take();
}

Result<LeaseStatementCall> parse_lease_statement_call(ByteView payload) {
  Reader in{payload};
  LeaseStatementCall call;
  SP_TRY(call.case_id, read_case(in));
  SP_TRY(const ByteView content, in.prefixed32(kMaxContentBytes));
  call.content = to_bytes(content);
  SP_TRY(call.nonce_tpm, in.array<32>());
  SP_TRY(call.expiration_s, in.u32());
  SP_CHECK(in.finish());
  return call;
}

Bytes encode(const LeaseCall& call) {
  Writer out;
  out.raw(view(call.case_id)).u64(call.index.get()).raw(view(call.nonce)).prefixed32(call.body);
  out.prefixed32(call.content).raw(ByteView{call.nonce_tpm});
  return std::move(out).take();
}

Result<LeaseCall> parse_lease_call(ByteView payload) {
  Reader in{payload};
  LeaseCall call;
  SP_TRY(call.case_id, read_case(in));
  SP_TRY(const std::uint64_t index, in.u64());
  call.index = LeafIndex{index};
  SP_TRY(const auto nonce, in.array<32>());
  call.nonce = Nonce{nonce};
  SP_TRY(const ByteView body, in.prefixed32(kMaxContentBytes));
  call.body = to_bytes(body);
  SP_TRY(const ByteView content, in.prefixed32(kMaxContentBytes));
  call.content = to_bytes(content);
  SP_TRY(call.nonce_tpm, in.array<32>());
  SP_CHECK(in.finish());
  return call;
}

}  // namespace sallyport::keyguard
