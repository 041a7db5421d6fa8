#pragma once

#include <string>
#include <vector>

#include "attestation/ledger/cosignature.h"
#include "attestation/ledger/proof.h"
#include "attestation/ledger/tree.h"
#include "tests/support/matchers.h"

namespace sallyport::test {

// TestLog is a log in memory with fresh software keys, and the witnesses who cosign whatever they are told
// to.
class TestLog {
 public:
  explicit TestLog(std::size_t witnesses = 4, std::string origin = "us.sallyport.corp.example/log/1")
      : origin_(std::move(origin)) {
    for (std::size_t i = 0; i < witnesses; ++i)
      witness_keys_.push_back(crypto::PrivateKey::generate(crypto::KeyAlgorithm::kEd25519));
  }

  ledger::Tree tree;

  const std::string& origin() const { return origin_; }
  const crypto::PrivateKey& log_key() const { return log_key_; }
  const crypto::PrivateKey& witness_key(std::size_t i) const { return witness_keys_.at(i); }
  static std::string witness_name(std::size_t i) { return "w" + std::to_string(i) + ".witness.example"; }

  ledger::NoteKey log_vkey() const {
    return value_of(ledger::NoteKey::make(origin_, ledger::NoteKeyType::kEd25519, log_key_.public_key()));
  }
  ledger::NoteKey witness_vkey(std::size_t i) const {
    return value_of(ledger::NoteKey::make(witness_name(i), ledger::NoteKeyType::kCosignature,
                                          witness_key(i).public_key()));
  }

  // policy_text is tlog-policy text: k of all witnesses, named w0, w1, …
  std::string policy_text(std::size_t k) const {
    std::string text = "log " + ledger::format_vkey(log_vkey()) + "\n", names;
    for (std::size_t i = 0; i < witness_keys_.size(); ++i) {
      text += "witness w" + std::to_string(i) + " " + ledger::format_vkey(witness_vkey(i)) + "\n";
      names += " w" + std::to_string(i);
    }
    return text + "group all-witnesses " + std::to_string(k) + names + "\nquorum all-witnesses\n";
  }
  ledger::WitnessPolicy policy(std::size_t k) const {
    return value_of(ledger::parse_witness_policy(policy_text(k)));
  }

  ledger::Checkpoint head(std::uint64_t size) const {
    return {Origin{origin_}, TreeSize{size}, value_of(tree.root(TreeSize{size})), {}};
  }
  // signed_note is a checkpoint signed by the log alone.
  std::string signed_note(const ledger::Checkpoint& checkpoint) const {
    const std::string text = ledger::checkpoint_text(checkpoint);
    return ledger::encode_note({text, {value_of(ledger::sign_note_line(log_key_, origin_, text))}});
  }
  ledger::SignatureLine cosignature(std::size_t witness, std::uint64_t seconds,
                                    const std::string& text) const {
    return value_of(
        ledger::cosign_line(witness_key(witness), witness_name(witness), ledger::UnixSeconds{seconds}, text));
  }
  // cosigned_note is a checkpoint cosigned by these witnesses at this time.
  std::string cosigned_note(const ledger::Checkpoint& checkpoint, const std::vector<std::size_t>& witnesses,
                            std::uint64_t seconds) const {
    std::vector<ledger::SignatureLine> lines;
    for (const std::size_t i : witnesses)
      lines.push_back(cosignature(i, seconds, ledger::checkpoint_text(checkpoint)));
    return value_of(ledger::add_signature_lines(signed_note(checkpoint), lines));
  }
  // proof is a stapled proof of a leaf in the whole tree.
  ledger::ClaimedProof proof(std::uint64_t index, const std::vector<std::size_t>& witnesses,
                             std::uint64_t seconds) const {
    return {std::nullopt, LeafIndex{index}, value_of(tree.inclusion(LeafIndex{index}, tree.size())),
            cosigned_note(head(tree.size().get()), witnesses, seconds)};
  }

 private:
  std::string origin_;
  crypto::PrivateKey log_key_ = crypto::PrivateKey::generate(crypto::KeyAlgorithm::kEd25519);
  std::vector<crypto::PrivateKey> witness_keys_;
};

}  // namespace sallyport::test
