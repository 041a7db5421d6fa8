#include "tests/support/guard_world.h"

#include <fcntl.h>
#include <unistd.h>

#include "attestation/base/writer.h"
#include "attestation/crypto/digest.h"
#include "attestation/crypto/ssh_key.h"
#include "attestation/ledger/cosignature.h"
#include "attestation/net/frames.h"
#include "broker/credentials/ssh_certificate.h"
#include "tests/support/matchers.h"
#include "tests/support/process.h"

namespace sallyport::test {

using keyguard::Call;

namespace {

class GuardHere final : public GuardSeat {
 public:
  explicit GuardHere(std::unique_ptr<keyguard::Guard> guard) : guard_(std::move(guard)) {}
  Bytes answer(ByteView frame) override { return guard_->answer(frame); }

 private:
  std::unique_ptr<keyguard::Guard> guard_;
};

// GuardProcess is a keyguard under test, whose clock is set before each question.
class GuardProcess final : public GuardSeat {
 public:
  GuardProcess(Process process, net::FrameClient client, std::filesystem::path clock, const UnixMillis& now)
      : process_(std::move(process)), client_(std::move(client)), clock_(std::move(clock)), now_(now) {}

  Bytes answer(ByteView frame) override {
    set_clock(clock_, now_);
    return value_of(client_.call(frame, std::chrono::seconds{60}));
  }

  static void set_clock(const std::filesystem::path& file, UnixMillis now) {
    const std::uint64_t ms = now.get();
    const int fd = ::open(file.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    EXPECT_EQ(::pwrite(fd, &ms, sizeof(ms), 0), static_cast<ssize_t>(sizeof(ms)));
    ::close(fd);
  }

 private:
  Process process_;
  net::FrameClient client_;
  std::filesystem::path clock_;
  const UnixMillis& now_;
};

}  // namespace

GuardWorld::GuardWorld(const std::function<void(SampleCompany&)>& change, std::string program)
    : token(hsm.open("us")),
      keys(value_of(pkcs11::make_region_keys(token))),
      company([&](SampleCompany& sample) {
        sample.policy.log = keys.log.public_key();
        sample.policy.ssh_ca = keys.ssh_ca.public_key();
        sample.policy.x509_ca = keys.x509_ca.public_key();
        sample.policy.lease = keys.lease.public_key();
        sample.policy.secrets = keys.secrets.public_key();
        if (change) change(sample);
      }),
      program_(std::move(program)) {
  company.sign_as_log = [this](const std::string& text) {
    const auto key = value_of(ledger::NoteKey::make(company.company.policy.origin,
                                                    ledger::NoteKeyType::kEd25519, keys.log.public_key()));
    return ledger::make_signature_line(key, value_of(token.sign_ed25519(keys.log, as_bytes(text))));
  };
  value_of(keyguard::Guard::init(state(), {company.origin(), company.genesis}));
  guard = value_of(open(state()));
}

Result<std::unique_ptr<GuardSeat>> GuardWorld::open(const std::filesystem::path& state) const {
  if (!program_.empty()) return start_program(state);
  SP_TRY(auto opened, keyguard::Guard::open(state, token, [this] { return company.now; }));
  return std::unique_ptr<GuardSeat>{std::make_unique<GuardHere>(std::move(opened))};
}

Result<std::unique_ptr<GuardSeat>> GuardWorld::start_program(const std::filesystem::path& state) const {
  const std::filesystem::path socket = state.string() + ".socket", clock = state.string() + ".clock";
  std::filesystem::remove(socket);  // of one that was killed
  GuardProcess::set_clock(clock, company.now);
  Process process{{program_, "serve", "--state", state, "--socket", socket, "--module",
                   TemporarySoftHsm::module_path(), "--token", "us", "--pin-file", hsm.pin_file()},
                  state.string() + ".log",
                  {"LD_PRELOAD=" SALLYPORT_SET_CLOCK, "SALLYPORT_TEST_CLOCK=" + clock.string()}};
  poll_until([&] { return std::filesystem::exists(socket) || !process.running(); });
  if (!process.running()) return Error{Code::kUnavailable, process.output()};
  net::FrameLimits limits;
  limits.max_frame_bytes = keyguard::kMaxFrameBytes;
  Result<net::FrameClient> client = Error{Code::kUnavailable, "not yet"};
  poll_until([&] {  // the socket is there a moment before it listens
    client = net::FrameClient::connect(socket, limits);
    return client.has_value() || !process.running();
  });
  if (!client.has_value()) return std::move(client).error();
  return std::unique_ptr<GuardSeat>{
      std::make_unique<GuardProcess>(std::move(process), std::move(*client), clock, company.now)};
}

void GuardWorld::restart() {
  guard.reset();
  guard = value_of(open(state()));
}

Result<Bytes> GuardWorld::call(Call call, ByteView payload) {
  const Bytes answer = guard->answer(keyguard::encode_frame(call, payload));
  SP_TRY(const keyguard::Frame frame, keyguard::parse_frame(answer));
  if (frame.call == Call::kError) return keyguard::parse_error(frame.payload);
  EXPECT_EQ(frame.call, call);
  return frame.payload;
}

keyguard::StatusAnswer GuardWorld::status() {
  return value_of(keyguard::parse_status_answer(value_of(call(Call::kStatus, {}))));
}

record::Batch GuardWorld::batch(LeafIndex from) const {
  record::Batch out;
  out.from = from;
  for (std::size_t i = from.get(); i < company.entries.size(); ++i) {
    const record::Entry& entry = company.entries[i];
    out.leaves.push_back(entry.leaf);
    if (record::is_control(value_of(record::parse_kind(entry.leaf.kind))))
      out.controls.push_back({LeafIndex{i}, entry});
  }
  return out;
}

std::string GuardWorld::note_of(TreeSize size, std::size_t witnesses) const {
  ledger::Tree tree;
  for (std::size_t i = 0; i < size.get(); ++i) tree.append(ledger::leaf_hash(company.entries[i].leaf));
  return company.cosign(tree, witnesses, company.now);
}

Result<std::string> GuardWorld::advance(const record::Batch& batch) {
  SP_TRY(const Bytes note, call(Call::kAdvance, record::encode_batch(batch)));
  return std::string{as_text(note)};
}

std::string GuardWorld::feed() {
  std::string note;
  for (TreeSize at = status().size; at.get() < company.entries.size() || note.empty();) {
    record::Batch next = batch(LeafIndex{at.get()});
    if (at.get() == 0 && next.leaves.size() > 1) {  // the first leaf alone, as every log begins
      next.leaves.resize(1);
      next.controls.resize(1);
    }
    if (at.get() != 0) next.note = note_of(at);
    note = value_of(advance(next));
    at = TreeSize{at.get() + next.leaves.size()};
  }
  return note;
}

Result<Bytes> GuardWorld::certify(const record::Dossier& dossier) {
  return call(Call::kCertify, record::encode_dossier(dossier));
}

Result<Bytes> GuardWorld::lease_statement(const keyguard::LeaseStatementCall& statement) {
  return call(Call::kLeaseStatement, keyguard::encode(statement));
}

Result<crypto::Signature64> GuardWorld::lease(const keyguard::LeaseCall& lease) {
  SP_TRY(const Bytes answer, call(Call::kLease, keyguard::encode(lease)));
  crypto::Signature64 signature{};
  EXPECT_EQ(answer.size(), signature.size());
  std::copy(answer.begin(), answer.end(), signature.begin());
  return signature;
}

Bytes GuardWorld::login(ByteView certificate, const Login& login) const {
  const Bytes host_key =
      value_of(crypto::ssh_key_blob(login.host_key ? *login.host_key : company.host_key.public_key()));
  const Digest256 session_id = crypto::sha256(as_bytes("the key exchange"));
  return std::move(Writer{}
                       .prefixed32(view(session_id))
                       .u8(50)
                       .prefixed32(login.user)
                       .prefixed32(login.service)
                       .prefixed32(login.method)
                       .u8(1)
                       .prefixed32(credentials::kSshCertificateType)
                       .prefixed32(certificate)
                       .prefixed32(host_key))
      .take();
}

Result<keyguard::LeaseCall> GuardWorld::log_lease(const OpenCase& open, ByteView content,
                                                  const LeaseSteps& steps) {
  SP_TRY(const Bytes envelope,
         lease_statement({open.id, to_bytes(content), steps.nonce_tpm, steps.expiration_s}));
  SP_TRY(const LeafIndex index, company.append(record::Kind::kLease, open.id, {envelope, {}}));
  const record::Entry& entry = company.entries.at(index.get());
  return keyguard::LeaseCall{open.id, index, entry.nonce, entry.body, to_bytes(content), steps.nonce_tpm};
}

}  // namespace sallyport::test
