#!/usr/bin/env bash
# Installs the Debian package in a scratch root, configures, upgrades and purges it, and checks what is
# there after each step. Needs root, and a package: .ci/release makes it.
set -euo pipefail
cd "$(dirname "$0")/.."
exec </dev/null
source examples/debian.sh

(( EUID == 0 )) || { echo "A scratch root needs root: sudo $0" >&2; exit 1; }
packages=(target/release-artifacts/*.deb)
[[ -e ${packages[0]} ]] || { echo "There is no package in target/release-artifacts: run .ci/release first." >&2; exit 1; }
package=${packages[0]}
command -v lintian >/dev/null || install_packages lintian
command -v debootstrap >/dev/null || install_packages debootstrap

base=target/packaging/base
root=target/packaging/root
release=$(. /etc/os-release && echo "$VERSION_CODENAME")

inside() { env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive chroot "$root" "$@"; }
fail() { echo "packaging: $*" >&2; exit 1; }
step() { printf '== %s\n' "$*"; }
# Every file, but for the records of dpkg, logs, caches and what a boot clears.
files() { (cd "$root" && find . | grep -vE '^\./(run|var/(lib/dpkg|log|cache))(/|$)' | sort); }

step "lintian"
# --fail-on counts what is overridden, too.
lintian --display-info --allow-root "$package" | tee target/lintian.log || true
! grep '^[EW]:' target/lintian.log >/dev/null || fail "lintian is not content"

if [[ ! -e $base/complete ]]; then
  step "a scratch root of Debian $release"
  rm -rf "$base"
  mkdir -p "$base"
  debootstrap --variant=minbase --include=ca-certificates,procps,systemd "$release" "$base" \
    "${DEBIAN_MIRROR:-http://deb.debian.org/debian}" >"$base.log" || { tail -n 20 "$base.log"; exit 1; }
  touch "$base/complete"
fi
rm -rf "$root"
cp -a "$base" "$root"
before=$(files)

step "install"
cp "$package" "$root/package.deb"
inside dpkg --install /package.deb
rm "$root/package.deb"
inside pushrider --version
[[ ! -L $root/etc/systemd/system/multi-user.target.wants/pushrider.service ]] || fail "it is enabled before it is configured"
[[ $(inside dpkg-query --showformat '${Conffiles}' --show pushrider) == *" /etc/pushrider/pushrider.toml "* ]] || fail "the configuration is no conffile"
for page in man1/pushrider.1.gz man1/pushrider-run.1.gz man5/pushrider.toml.5.gz; do
  gzip --test "$root/usr/share/man/$page"
done
bash -n "$root/usr/share/bash-completion/completions/pushrider"

step "configure"
inside pushrider keys generate --out /etc/pushrider/vapid.pem
(umask 077 && echo "amqp://127.0.0.1" >"$root/etc/pushrider/amqp-url")
sed -i -E 's/^#(\[apps|subject)/\1/' "$root/etc/pushrider/pushrider.toml"
mkdir "$root/credentials"
cp "$root/etc/pushrider/amqp-url" "$root/credentials/broker.url"
cp "$root/etc/pushrider/vapid.pem" "$root/credentials/keys.main.private_key"
inside env CREDENTIALS_DIRECTORY=/credentials pushrider check
rm -r "$root/credentials"
# The scratch root has no program man.
inside systemd-analyze verify --man=no pushrider.service pushrider@second.service
inside systemctl enable pushrider.service

step "upgrade"
rm -rf target/packaging/newer
dpkg-deb --raw-extract "$package" target/packaging/newer
sed -i 's/^Version: .*/&+newer/' target/packaging/newer/DEBIAN/control
dpkg-deb --root-owner-group --build target/packaging/newer "$root/package.deb" >/dev/null
inside dpkg --install /package.deb
rm "$root/package.deb"
grep -q '^subject' "$root/etc/pushrider/pushrider.toml" || fail "the upgrade lost what was configured"
[[ -L $root/etc/systemd/system/multi-user.target.wants/pushrider.service ]] || fail "the upgrade disabled the service"

step "purge"
# What the daemon and a second one write under DynamicUser=yes.
mkdir -p "$root/var/lib/private"/pushrider{,-second}
inside dpkg --purge pushrider
[[ -e $root/etc/pushrider/vapid.pem ]] || fail "the purge removed the key of the operator"
rm -r "$root/etc/pushrider"
diff <(echo "$before") <(files) || fail "the purge left something, or removed what is not its own"
rm -rf "$root" target/packaging/newer
echo "== all good"
