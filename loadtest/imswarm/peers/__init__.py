"""The servers people use today, measured in one run with this one: `imswarm peers`.

    contenders   who takes part: imserver, and every peer with and without its archive
    prosody, ejabberd, centrifugo
                 one peer each: its configuration, how it is started
    launch       a peer's processes: started on a free port, stopped
    xmpp         a client's side of XMPP, without a socket: stanzas, login, registration, message
    xmpp_server  the server's: whether it is there, accounts
    sessions     the same sessions and talkers as imserver's, speaking XMPP
    round        one contender measured once: logins, memory, throughput, latency
    comparison   many rounds in turn; medians, spreads and ratios; the table

Everything else is what `imswarm chat` uses: client processes, pairs, pacing, cores, meters.
"""
