/**
 * Shell names that nobody may take: every account and group of Debian's base system, those of common packages, the
 * first users of cloud images, and words that people would trust. An account with the name of a system group can gain
 * the rights of the group (CVE-2020-8903: `docker`, `lxd`, `adm`). `chamberlain doctor` compares the list with the
 * accounts of a host, and the configuration may add names.
 */
const RESERVED = new Set(
  `
  _apt _chrony _rpc _ssh abuse adbusers adm admin administrator ansible apache arch at audio
  audit auditd avahi azureuser backup bin bind bluetooth cdrom centos ceph chamberlain chrony
  clamav cloud collectd colord console consul cron crontab cups daemon dbus debian debian-exim
  dialout dip disk dnsmasq docker dovecot dovenull ec2-user elastic elasticsearch etcd exim fax
  fedora floppy freerad ftp fwupd-refresh games gdm geoclue gerrit git gitlab gluster glusterfs
  gnats gnome-initial-setup google-sudoers gpio grafana guest halt haproxy help hostmaster hplip
  httpd i2c icinga ifaddrs incus incus-admin info input intake irc jenkins kafka kdc kerberos
  kernoops keys-agent kibana kmem krb5 kube kubernetes kvm ldap libvirt libvirt-qemu lightdm
  list localhost log logstash loopback lp lpadmin lxc lxc-dnsmasq lxd mail mailer-daemon mailman
  man mariadb mem memcache memcached messagebus microk8s mlocate mongodb munin mysql nagios
  named netdev news nfs nfsnobody nginx no-reply nobody node-exporter nogroup nomad noreply
  nslcd ntp ntpsec nvidia-persistenced opendkim openldap operator plocate plugdev polkitd
  postdrop postfix postgres postgresql postmaster proftpd project projects prometheus proxy
  pulse pulse-access puppet rabbitmq radius reboot redis relay render rocky root rpc rsync
  rsyslog rtkit samba sambashare saned sasl scanner sddm security sgx shadow shutdown slapd
  spamd speech-dispatcher spi squid src ssh sshd ssl ssl-cert sssd staff statd statsd sudo super
  superuser support sync sys syslog systemd-coredump systemd-journal systemd-network systemd-oom
  systemd-resolve systemd-timesync tape tcpdump terraform test tftp tools toor trusted tss tty
  ubuntu unbound usbmux user users utmp uucp uuidd vagrant varnish vault vboxsf vboxusers video
  voice vsftpd webmaster wheel whoopsie winbindd-priv wireshark www-data zabbix zookeeper
`
    .trim()
    .split(/\s+/),
);

/** Prefixes of reserved names: accounts that systemd creates, and the accounts and groups of an installation. */
const RESERVED_PREFIXES = ['_', 'systemd-', 'chamberlain-'];

/**
 * Whether a shell name, in normal form, is reserved.
 *
 * @param more names that the configuration reserves (`reservedNames`)
 */
export function isReservedName(name: string, more: readonly string[]): boolean {
  return (
    RESERVED.has(name) ||
    RESERVED_PREFIXES.some((prefix) => name.startsWith(prefix)) ||
    more.includes(name)
  );
}
