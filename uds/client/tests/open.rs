//! Opening says what is missing and what to do about it.

use uds::can::CanId;
use uds::isotp::Config;
use uds_client::{
    Backend, StandardId, TransportError, UdsClient, UdsCommunicationError, UdsError,
    UdsSocketOptions, open,
};

fn config() -> Config {
    let id = |raw| CanId::standard(raw).unwrap();
    Config::new(id(0x7E0), id(0x7E8))
}

#[tokio::test]
async fn an_interface_that_is_not_there() {
    for backend in [Backend::Auto, Backend::Kernel, Backend::Own] {
        let error = open("nocan7", config(), backend).unwrap_err();
        // Which of them depends on the kernel: this test runs on both kinds.
        let socket = nix::sys::socket::socket(
            nix::sys::socket::AddressFamily::Can,
            nix::sys::socket::SockType::Datagram,
            nix::sys::socket::SockFlag::empty(),
            None,
        );
        let kernel_has_can = socket.err() != Some(nix::errno::Errno::EAFNOSUPPORT);
        if kernel_has_can {
            assert!(error.to_string().contains("nocan7"), "{error}");
        } else {
            assert!(matches!(error, TransportError::NoKernelCan), "{error}");
            assert!(error.to_string().contains("bus:PATH"), "{error}");
        }
    }
}

#[tokio::test]
async fn the_kernel_cannot_use_a_user_space_bus() {
    let error = open("bus:/nowhere", config(), Backend::Kernel).unwrap_err();
    assert!(matches!(error, TransportError::NotAnInterface { .. }));
    let error = open("bus:/nowhere", config(), Backend::Auto).unwrap_err();
    assert!(error.to_string().contains("canhub"), "{error}");
}

#[tokio::test]
async fn the_client_says_it_in_the_shape_of_uds_rs() {
    let id = |raw| StandardId::new(raw).unwrap();
    let options = UdsSocketOptions::vw().unwrap();
    let error = UdsClient::new("nocan7", id(0x774), id(0x70A), options).unwrap_err();
    let UdsError::CommunicationError { error } = error else {
        panic!("{error:?}");
    };
    assert!(matches!(
        error,
        UdsCommunicationError::NoKernelCan(_) | UdsCommunicationError::FailedToFindCanDevice(_)
    ));
}

#[test]
fn options_become_a_configuration() {
    use uds_client::{FlowControlOptions, IsoTpBehaviour, IsoTpOptions, LinkLayerOptions, TxFlags};
    let flags = IsoTpBehaviour::CAN_ISOTP_EXTEND_ADDR | IsoTpBehaviour::CAN_ISOTP_RX_EXT_ADDR;
    let gap = std::time::Duration::ZERO;
    let options = UdsSocketOptions {
        isotp_options: Some(IsoTpOptions::new(flags, gap, 0x10, 0x55, 0xAA, 0x20).unwrap()),
        rx_flow_control_options: Some(FlowControlOptions::new(8, 5, 3)),
        link_layer_options: Some(LinkLayerOptions::new(72, 64, TxFlags::CANFD_BRS)),
    };
    let (src, dst) = (
        StandardId::new(0x774).unwrap(),
        StandardId::new(0x70A).unwrap(),
    );
    let config = options.isotp_config(src.into(), dst.into()).unwrap();
    assert_eq!((config.rx_id.raw(), config.tx_id.raw()), (0x774, 0x70A));
    assert_eq!(config.padding, None);
    assert_eq!(
        (config.block_size, config.st_min.to_wire(), config.wft_max),
        (8, 5, 3)
    );
    assert_eq!(config.tx_dl.bytes(), 64);
    let expected = uds::isotp::Addressing::Extended {
        tx: 0x10,
        rx: 0x20,
        functional: 0x10,
    };
    assert_eq!(config.addressing, expected);
    let vw = UdsSocketOptions::vw().unwrap();
    let vw = vw.isotp_config(src.into(), dst.into()).unwrap();
    assert_eq!(vw.padding, Some(0x55));
}
