# make install, make uninstall: programs, unit, users, manual pages, a sample configuration. Nothing that an administrator wrote is
# overwritten or removed.
BINDIR := $(DESTDIR)$(PREFIX)/bin
PROGDIR := $(DESTDIR)$(PREFIX)/lib/mailstead
MANDIR := $(DESTDIR)$(PREFIX)/share/man
DOCDIR := $(DESTDIR)$(PREFIX)/share/doc/mailstead
SYSTEMDIR := $(DESTDIR)/usr/lib
CONFDIR := $(DESTDIR)/etc/mailstead

.PHONY: install uninstall
install: all
	install -d "$(BINDIR)" "$(PROGDIR)" "$(MANDIR)/man5" "$(MANDIR)/man8" "$(DOCDIR)" "$(SYSTEMDIR)/systemd/system" \
		"$(SYSTEMDIR)/sysusers.d" "$(SYSTEMDIR)/tmpfiles.d" "$(CONFDIR)"
	install -m 755 $(ADMIN_BIN) "$(BINDIR)/mailstead"
	install -m 755 $(SENDMAIL_BIN) "$(BINDIR)/mailstead-sendmail"
	install -m 755 $(ROLE_BIN) "$(PROGDIR)/"
	sed 's|/usr/bin/mailstead|$(PREFIX)/bin/mailstead|' etc/mailstead.service > $(B)/mailstead.service
	$(ADMIN_BIN) config man > $(B)/mailstead.conf.5
	$(ADMIN_BIN) config defaults > $(B)/mailstead.conf.sample
	install -m 644 $(B)/mailstead.service "$(SYSTEMDIR)/systemd/system/mailstead.service"
	install -m 644 etc/mailstead.sysusers "$(SYSTEMDIR)/sysusers.d/mailstead.conf"
	install -m 644 etc/mailstead.tmpfiles "$(SYSTEMDIR)/tmpfiles.d/mailstead.conf"
	install -m 644 etc/mailstead.8 etc/mailstead-sendmail.8 "$(MANDIR)/man8/"
	install -m 644 $(B)/mailstead.conf.5 "$(MANDIR)/man5/mailstead.conf.5"
	install -m 644 $(B)/mailstead.conf.sample "$(DOCDIR)/mailstead.conf.sample"
	test -e "$(CONFDIR)/mailstead.conf" || install -m 644 $(B)/mailstead.conf.sample "$(CONFDIR)/mailstead.conf"
ifeq ($(DESTDIR),)
	! command -v systemd-sysusers > /dev/null || systemd-sysusers $(SYSTEMDIR)/sysusers.d/mailstead.conf
	! getent group mailstead-key > /dev/null || install -d -m 750 -g mailstead-key $(CONFDIR)/tls
	! test -d /run/systemd/system || systemctl daemon-reload
	@echo 'Now write hostname = ... into /etc/mailstead/mailstead.conf, put cert.pem and key.pem into /etc/mailstead/tls'
	@echo '(key.pem readable by the group mailstead-key), then: systemctl enable --now mailstead'
endif

# A configuration that is still the sample goes too.
uninstall:
	! cmp -s "$(DOCDIR)/mailstead.conf.sample" "$(CONFDIR)/mailstead.conf" || rm "$(CONFDIR)/mailstead.conf"
	rm -f "$(BINDIR)/mailstead" "$(BINDIR)/mailstead-sendmail" "$(MANDIR)/man8/mailstead-sendmail.8" "$(SYSTEMDIR)/systemd/system/mailstead.service" "$(SYSTEMDIR)/sysusers.d/mailstead.conf" \
		"$(SYSTEMDIR)/tmpfiles.d/mailstead.conf" "$(MANDIR)/man8/mailstead.8" "$(MANDIR)/man5/mailstead.conf.5"
	rm -rf "$(PROGDIR)" "$(DOCDIR)"
	rmdir "$(CONFDIR)/tls" "$(CONFDIR)" 2>/dev/null || true
	@echo 'Kept: what you wrote into /etc/mailstead, all of /var/lib/mailstead, and the users of the roles'
