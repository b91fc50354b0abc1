#include "addon/sha256.h"

#include <openssl/evp.h>

namespace caisson {

Sha256::Sha256()
    : context_(EVP_MD_CTX_new()),
      good_(context_ != nullptr && EVP_DigestInit_ex(static_cast<EVP_MD_CTX*>(context_), EVP_sha256(), nullptr) == 1) {}

Sha256::~Sha256() { EVP_MD_CTX_free(static_cast<EVP_MD_CTX*>(context_)); }

bool Sha256::update(span<const u8> data) {
  good_ = good_ && EVP_DigestUpdate(static_cast<EVP_MD_CTX*>(context_), data.data(), data.size()) == 1;
  return good_;
}

bool Sha256::finish(u8 (&out)[kSize]) {
  return good_ && EVP_DigestFinal_ex(static_cast<EVP_MD_CTX*>(context_), out, nullptr) == 1;
}

std::string hex_of(span<const u8> bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string hex;
  for (const u8 byte : bytes) {
    hex.push_back(kDigits[byte >> 4]);
    hex.push_back(kDigits[byte & 15]);
  }
  return hex;
}

}  // namespace caisson
