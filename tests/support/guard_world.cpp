#include "tests/support/guard_world.h"

#include "attestation/base/writer.h"
#include "attestation/crypto/digest.h"
#include "attestation/crypto/ssh_key.h"
#include "attestation/ledger/cosignature.h"
#include "broker/credentials/ssh_certificate.h"
#include "tests/support/matchers.h"

namespace sallyport::test {

using keyguard::Call;

GuardWorld::GuardWorld(const std::function<void(SampleCompany&)>& change)
    : token(hsm.open("us")),
      keys(value_of(pkcs11::make_region_keys(token))),
      company([&](SampleCompany& sample) {
        sample.policy.log = keys.log.public_key();
        sample.policy.ssh_ca = keys.ssh_ca.public_key();
        sample.policy.x509_ca = keys.x509_ca.public_key();
        sample.policy.lease = keys.lease.public_key();
        sample.policy.secrets = keys.secrets.public_key();
        if (change) change(sample);
      }) {
  company.sign_as_log = [this](const std::string& text) {
    const auto key = value_of(ledger::NoteKey::make(company.company.policy.origin,
                                                    ledger::NoteKeyType::kEd25519, keys.log.public_key()));
    return ledger::make_signature_line(key, value_of(token.sign_ed25519(keys.log, as_bytes(text))));
  };
  value_of(keyguard::Guard::init(state(), {company.origin(), company.genesis}));
  guard = value_of(open(state()));
}

Result<std::unique_ptr<keyguard::Guard>> GuardWorld::open(const std::filesystem::path& state) const {
  return keyguard::Guard::open(state, token, [this] { return company.now; });
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
