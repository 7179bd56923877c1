#!/bin/bash
# The first process of one host of the lab; lab.py starts it inside fresh namespaces, with these in the environment:
#   NAME, ADDRESS     the host's name and address
#   DISK              a folder that outlives the host's end: what the host writes, and its home
#   PACKAGES          unpacked Debian packages: sshd, rsync and what else the lab asks for
#   HIDDEN            folders of the machine that the host must not see (one a line)
#   READ_ONLY, SHARED folders that it sees at the same path, read-only and writeable (one a line each)
#   SHM_SIZE          of /dev/shm, as mount takes it
#   KEY, HOSTS        the lab's SSH key (KEY.pub beside it), and the text of /etc/hosts
set -euo pipefail
root=$DISK/root
hostname "$NAME"
ip link set lo up
mkdir -p "$DISK/written" "$DISK/work" "$DISK/home" "$root"
mount -t overlay overlay -o "lowerdir=$PACKAGES:/,upperdir=$DISK/written,workdir=$DISK/work" "$root"

mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o "size=$SHM_SIZE" shm "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620,gid=5 devpts "$root/dev/pts"
mount --bind "$root/dev/pts/ptmx" "$root/dev/ptmx"
mount -t tmpfs -o mode=1777 tmp "$root/tmp"
mount -t tmpfs run "$root/run"
mkdir "$root/run/sshd"

mount --bind "$DISK/home" "$root/root"
while read -r folder; do
    if [ -d "$root$folder" ]; then mount -t tmpfs hidden "$root$folder"; fi
done <<< "$HIDDEN"
while read -r folder; do
    [ -n "$folder" ] || continue
    mkdir -p "$root$folder"
    mount --bind "$folder" "$root$folder"
    mount -o remount,bind,ro "$root$folder"
done <<< "$READ_ONLY"
while read -r folder; do
    [ -n "$folder" ] || continue
    mkdir -p "$root$folder"
    mount --bind "$folder" "$root$folder"
done <<< "$SHARED"

mkdir -p -m 700 "$root/root/.ssh"
touch "$root/root/.bashrc"
cp "$KEY.pub" "$root/root/.ssh/authorized_keys"
cp "$KEY" "$root/root/.ssh/lab_key"
chmod 600 "$root/root/.ssh/lab_key"
cp "$HOSTS" "$root/etc/hosts" # without a route Ray asks it for the host's own address
echo "$NAME" > "$root/etc/hostname"
: > "$root/etc/resolv.conf"
grep -q ^sshd: "$root/etc/passwd" || echo 'sshd:x:109:65534::/run/sshd:/usr/sbin/nologin' >> "$root/etc/passwd"
[ -f "$root/etc/ssh/lab_host_key" ] || ssh-keygen -q -t ed25519 -N '' -f "$root/etc/ssh/lab_host_key"
cat > "$root/etc/ssh/lab_sshd" <<END
ListenAddress $ADDRESS
HostKey /etc/ssh/lab_host_key
PermitRootLogin prohibit-password
PasswordAuthentication no
UsePAM no
UseDNS no
PrintMotd no
MaxStartups 100
END
exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root \
    chroot "$root" /usr/sbin/sshd -D -e -f /etc/ssh/lab_sshd
